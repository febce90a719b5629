# SPDX-License-Identifier: Apache-2.0
"""A bundle as an object."""

from __future__ import annotations

import difflib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_ext.bundle.ensembles import FoldEnsemble, fold_ensemble
from monai_ext.bundle.literals import literal, mixed_precision
from monai_ext.bundle.places import METADATA, collection, folder_for, is_bundle
from monai_ext.bundle.trained_with import checked_sizes, trained_with
from monai_ext.utils.json_files import read_json

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser, ConfigWorkflow

__all__ = ["Bundle", "find_bundle", "known_bundles"]

# what each kind of run merges
KINDS = {"training": ("train",), "evaluation": ("train", "evaluate"), "inference": ("inference",)}


class Bundle:
    """One bundle: a folder with ``configs/metadata.json``, or a ``model.ts`` that was exported from one.

    Args:
        folder: the folder, or the exported file.

    Raises:
        FileNotFoundError: if it is neither.

    Attributes:
        folder: its folder, or that of the exported file.
        exported: the ``model.ts``, or None.

    Examples::

        >>> bundle = Bundle.find("dcaunet_synapse")
        >>> bundle.class_names[:2], bundle.modality, bundle.pictures
        (('aorta', 'gallbladder'), 'CT', False)
        >>> network = bundle.network()
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        path = Path(folder)
        self.exported: Path | None = path if path.suffix == ".ts" and path.is_file() else None
        if self.exported is None and not is_bundle(path):
            raise FileNotFoundError(f"monai_ext: {path}: no bundle (configs/metadata.json expected).")
        self.folder = path if self.exported is None else path.parent

    def __repr__(self) -> str:
        return f"Bundle({str(self.exported or self.folder)!r})"

    @classmethod
    def find(cls, place: str | os.PathLike) -> Bundle:
        """The bundle of a name or a folder, an exported ``model.ts``, or the one of either that a folder holds.

        Raises:
            FileNotFoundError: if there is none; names the nearest that is known.
            ValueError: if a folder holds several.
        """
        path = Path(place).expanduser()
        if is_bundle(path):
            return cls(path)
        if path.suffix == ".ts":
            if not path.is_file():
                raise FileNotFoundError(f"monai_ext: {path}: no such model.")
            return cls(path)
        known = cls.known()
        if str(place) in known:
            return known[str(place)]
        inside = cls._inside(path)
        if len(inside) == 1:
            return cls(inside[0])
        if inside:
            names = ", ".join(sorted(found.name for found in inside))
            raise ValueError(f"monai_ext: {path}: expected one bundle or model.ts, found {names}. Give one of them.")
        near = difflib.get_close_matches(str(place), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(
            f"monai_ext: no bundle {str(place)!r}: neither a folder with configs/metadata.json nor one of "
            f"{', '.join(known) or 'the bundles folder, which was not found'}.{hint}"
        )

    @staticmethod
    def _inside(path: Path) -> list[Path]:
        """Bundles right below a folder, and exported models anywhere else below it."""
        try:
            if not path.is_dir():
                return []
            found = [metadata.parents[1] for metadata in path.glob(os.path.join("*", *METADATA))]
        except OSError:  # a text that cannot be a path
            return []
        return found + [file for file in path.rglob("*.ts") if not any(bundle in file.parents for bundle in found)]

    @classmethod
    def known(cls) -> dict[str, Bundle]:
        """Name -> bundle: those below ``bundles`` of the current folder, then those that this library came with."""
        found: dict[str, Bundle] = {}
        for base in (Path("bundles"), collection()):
            for metadata in sorted(base.glob(os.path.join("*", *METADATA))):
                found.setdefault(metadata.parents[1].name, cls(metadata.parents[1]))
        return found

    @property
    def name(self) -> str:
        """The folder's name, or that of the exported file without ``.ts``."""
        return self.exported.stem if self.exported else self.folder.resolve().name

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What ``metadata.json`` holds.

        Raises:
            ValueError: if it is no metadata of a segmentation bundle; the file and what it lacks are named.
        """
        if self.exported:
            source, content = str(self.exported), self._extra("metadata")
        else:
            source = str(self.folder.joinpath(*METADATA))
            content = read_json(source, "metadata")
        if not isinstance(content, dict) or not {"task", "version"} <= content.keys():
            raise ValueError(f"monai_ext: {source}: no metadata of a bundle (task and version expected).")
        return content

    def _tensor(self, side: str, name: str) -> dict[str, Any]:
        formats: Any = self.metadata.get("network_data_format")
        try:
            found = formats[side][name]
            valid = isinstance(found, dict) and isinstance(found["num_channels"], int)
            valid = valid and (name != "pred" or isinstance(found["channel_def"], dict))
        except (KeyError, TypeError):
            valid = False
        if not valid:
            raise ValueError(
                f"monai_ext: {self.exported or self.folder.joinpath(*METADATA)}: network_data_format#{side}#{name} is "
                "not that of a segmentation bundle (num_channels, channel_def)."
            )
        return found

    @property
    def channel_def(self) -> dict[int, str]:
        """Label value -> name, background at 0 too."""
        named = self._tensor("outputs", "pred")["channel_def"]
        return {int(value): str(name) for value, name in sorted(named.items(), key=lambda item: int(item[0]))}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 1 to n, in the order of their label values."""
        return tuple(name for value, name in self.channel_def.items() if value > 0)

    @property
    def modality(self) -> str | None:
        """Of the images, in DICOM's words (``"CT"``, ``"MR"``); None if the metadata have none."""
        return self._tensor("inputs", "image").get("modality")

    @property
    def pictures(self) -> bool:
        """Whether it segments 2D pictures; volumes otherwise."""
        return self._tensor("inputs", "image").get("format") == "RGB"

    @property
    def in_channels(self) -> int:
        """Channels of the network's input."""
        return self._tensor("inputs", "image")["num_channels"]

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the channels of its volumes are; empty for one, and for the colours of pictures."""
        image = self._tensor("inputs", "image")
        if self.pictures or image["num_channels"] < 2:
            return ()
        named = image.get("channel_def")
        named = named if isinstance(named, dict) else {}
        return tuple(str(named.get(str(i), f"channel {i}")) for i in range(image["num_channels"]))

    @property
    def weights(self) -> Path:
        """Where its one model is, or will be: ``models/model.pt``, or the exported file itself."""
        return self.exported or Path(folder_for(self.folder, "models", reading=True), "model.pt")

    @property
    def folds(self) -> FoldEnsemble | None:
        """What a cross-validation left in it, see :func:`fold_ensemble`; None without one."""
        return None if self.exported else fold_ensemble(self.weights.parent)

    def checkpoints(self, ensemble: bool = True) -> list[Path]:
        """What it segments with: a checkpoint of each fold after ``crossval``, else ``weights``; they exist.

        Args:
            ensemble: false for ``weights`` in any case.

        Raises:
            FileNotFoundError: if there are none; says how to get some.
        """
        if ensemble and (folds := self.folds):
            return list(folds.checkpoints)
        if not self.weights.is_file():
            raise FileNotFoundError(
                f"monai_ext: bundle {self.name}: no weights at {self.weights}. Train it (python -m monai.bundle run "
                f"--config_file {self.folder / 'configs' / 'train.json'}), or put some there."
            )
        return [self.weights]

    def require_weights(self) -> Path:
        """One network's weights, which exist: ``weights``, or where there is only an ensemble, its first member.

        Raises:
            FileNotFoundError: if there are none; says how to get some.
        """
        return self.weights if self.weights.is_file() else self.checkpoints()[0]

    @property
    def largest_component(self) -> list[int]:
        """Classes of which only the largest component is kept, as a cross-validation decided."""
        return list(folds.largest_component) if (folds := self.folds) else []

    def config_file(self, name: str) -> Path:
        """Where the config of that name is, such as ``inference``; a name may be the path of a file elsewhere."""
        if os.path.isabs(name):
            return Path(name)
        return self.folder / "configs" / f"{name}.json"

    def config(self, name: str = "inference") -> dict[str, Any]:
        """A config as it is written, nothing in it parsed.

        Raises:
            FileNotFoundError: if the bundle has none of that name.
            ValueError: if it is no valid JSON, or lacks what such a config needs.
        """
        source = f"{self.exported}: {name}.json" if self.exported else str(self.config_file(name))
        content = self._extra(name) if self.exported else read_json(source, "config")
        needed = {"inference": ("preprocessing", "postprocessing", "dataset"), "train": ("train", "validate")}
        if not isinstance(content, dict) or not set(needed.get(name, ())) <= content.keys():
            raise ValueError(f"monai_ext: {source}: no {name} config of a bundle.")
        return content

    def _extra(self, name: str) -> Any:
        """A JSON file inside the exported model."""
        try:
            with zipfile.ZipFile(self.exported or "") as archive:
                file = next(entry for entry in archive.namelist() if entry.endswith(f"/extra/{name}.json"))
                return json.loads(archive.read(file))
        except (StopIteration, ValueError, zipfile.BadZipFile, OSError) as e:
            raise ValueError(
                f"monai_ext: {self.exported}: holds no {name}.json. Export it with MONAI's ckpt_export command."
            ) from e

    def network(
        self,
        checkpoint: str | os.PathLike | None = None,
        device: str | torch.device | None = "cpu",
        backend: str | None = "torch",
        precision: str | None = "float32",
    ) -> torch.nn.Module:
        """The network with its weights, loaded strictly, in evaluation mode.

        Args:
            checkpoint: weights instead of the bundle's own, or an export of its network.
            device: where it is to compute; None for where the config says.
            backend: what is to run it, see :func:`~monai_ext.networks.ready_network`; None for what the config says.
            precision: likewise.

        Raises:
            FileNotFoundError: if there are no weights.
            ValueError: if they are of another network.
        """
        from monai_ext.networks import is_export, ready_network
        from monai_ext.networks.utils import weights_follow

        if self.exported and checkpoint is None:
            import torch

            return torch.jit.load(str(self.exported), map_location=device or "cpu").eval()
        path = self.require_weights() if checkpoint is None else checkpoint
        parser = self.parser(**({} if checkpoint is None else {"ckpt_path": str(checkpoint)}))
        with weights_follow():
            network = parser.get_parsed_content("network_def")
        device = parser.get_parsed_content("device") if device is None else device
        if is_export(path):
            return ready_network(network, path, device)
        backend = parser.get_parsed_content("backend", default="auto") if backend is None else backend
        precision = parser.get_parsed_content("precision", default="auto") if precision is None else precision
        return ready_network(network, path, device, backend=backend, precision=precision)

    def parser(self, name: str = "inference", **knobs: Any) -> ConfigParser:
        """MONAI's parser of a config, with this bundle's folder as its ``bundle_root`` and its metadata.

        Args:
            name: of the config.
            knobs: values for it. They are data: a text in them is never parsed, see :func:`literal`.
        """
        from monai.bundle import ConfigParser

        parser = ConfigParser(self.config(name))
        parser.read_meta(self.metadata)
        for knob, value in self._knobs(parser.get(), knobs).items():
            parser[knob] = value
        return parser

    def workflow(self, kind: str = "inference", files: Sequence[str] | None = None, **knobs: Any) -> ConfigWorkflow:
        """A run of this bundle, not initialised yet.

        Args:
            kind: ``"training"``, ``"evaluation"`` or ``"inference"``.
            files: names of the configs to merge, such as ``["inference", "ensemble_inference"]``, or absolute paths of
                files elsewhere; by default those of the kind.
            knobs: values for the config, ``a#b`` for nested ones. They are data: a text that begins with ``$``,
                ``@`` or ``%`` stays that text, see :func:`literal`.

        Raises:
            ValueError: for an unknown kind or knob, or an exported model.

        Examples::

            >>> workflow = Bundle.find("qtseg_busi").workflow("inference", dataset_dir="pictures", device="cpu")
            >>> workflow.initialize(); workflow.run(); workflow.finalize()
        """
        from monai.bundle import ConfigWorkflow

        if kind not in KINDS:
            raise ValueError(f"monai_ext: kind must be one of {', '.join(KINDS)}; got {kind!r}.")
        if self.exported:
            raise ValueError(f"monai_ext: {self.exported}: is an exported model; {kind} needs the bundle's folder.")
        names = list(files or KINDS[kind])
        known: dict[str, Any] = {}
        for name in names:
            known |= self.config(name)
        return ConfigWorkflow(
            [str(self.config_file(name)) for name in names],
            workflow_type="inference" if kind == "inference" else "training",
            logging_file=False,
            **self._knobs(known, knobs),
        )

    def _knobs(self, config: Mapping[str, Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
        keys = [
            key for key in getattr(config, "config", config) if key not in ("imports", "initialize", "run", "_meta_")
        ]
        for knob in knobs:
            if str(knob).replace("::", "#").partition("#")[0] not in keys:
                near = difflib.get_close_matches(str(knob), keys, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else f" It has {', '.join(keys)}."
                raise ValueError(f"monai_ext: bundle {self.name} has no knob {knob!r}.{hint}")
        return {"bundle_root": literal(str(self.folder)), **{knob: literal(value) for knob, value in knobs.items()}}

    @property
    def trained_with(self) -> dict[str, Any]:
        """What the preprocessing of its weights was, see :func:`trained_with`; an export has it in its metadata."""
        if self.exported and isinstance(noted := self.metadata.get("trained_with"), Mapping):
            return checked_sizes(noted, self.exported)
        return trained_with(folds.checkpoints if (folds := self.folds) else self.weights)

    def default(self, knob: str, name: str = "train") -> Any:
        """The recipe's value of a knob, which weights may have another of (``as_trained`` in the config)."""
        from monai.bundle import ConfigParser

        given = self.config(name).get(knob)
        return ConfigParser({"as_trained": {}, knob: given}).get_parsed_content(knob)

    def mixed_precision(self, device: str | torch.device) -> bool:
        """Whether its inference computes in mixed precision there: on a GPU, unless ``amp`` is false."""
        return mixed_precision(self.config("inference").get("amp", False), device)


def known_bundles() -> dict[str, Path]:
    """Name -> folder of the bundles below the current folder and of those that this library came with."""
    return {name: bundle.folder for name, bundle in Bundle.known().items()}


def find_bundle(name: str | os.PathLike) -> Path:
    """The folder of a bundle given by its name or as a folder, see :meth:`Bundle.find`."""
    return Bundle.find(name).folder
