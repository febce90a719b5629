# SPDX-License-Identifier: Apache-2.0
"""A bundle as an object: found, read, loaded, run. Everybody who needs one takes it.

A bundle is where its config is: what it reads and writes lies beside the config that is being run, whatever its folder
is called. Importing this module costs nothing: PyTorch and MONAI wait until a network or a workflow is asked for.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

# configs name these here
from monai_ext.utils.errors import end_with_plain_error, plain_cause
from monai_ext.utils.json_files import read_json
from monai_ext.utils.knobs import KNOBS, as_json, knob_value
from monai_ext.utils.switches import flag

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser, ConfigWorkflow

__all__ = [
    "KNOBS",
    "Bundle",
    "Running",
    "bundle_root",
    "check_knobs",
    "collection",
    "end_with_plain_error",
    "find_bundle",
    "flag",
    "folder_for",
    "knob_value",
    "known_bundles",
    "literal",
    "mixed_precision",
    "note_trained_with",
    "plain_cause",
    "running",
    "stamp",
    "trained_with",
    "use_device",
]

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parent
_TAIL = ("configs", "metadata.json")
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
        if self.exported is None and not _is_bundle(path):
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
        if _is_bundle(path):
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
            found = [metadata.parents[1] for metadata in path.glob(os.path.join("*", *_TAIL))]
        except OSError:  # a text that cannot be a path
            return []
        return found + [file for file in path.rglob("*.ts") if not any(bundle in file.parents for bundle in found)]

    @classmethod
    def known(cls) -> dict[str, Bundle]:
        """Name -> bundle: those below ``bundles`` of the current folder, then those that this library came with."""
        found: dict[str, Bundle] = {}
        for base in (Path("bundles"), collection()):
            for metadata in sorted(base.glob(os.path.join("*", *_TAIL))):
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
            source = str(self.folder.joinpath(*_TAIL))
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
                f"monai_ext: {self.exported or self.folder.joinpath(*_TAIL)}: network_data_format#{side}#{name} is not "
                "that of a segmentation bundle (num_channels, channel_def)."
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
    def weights(self) -> Path:
        """Where its weights are, or will be: ``models/model.pt``, or the exported file itself."""
        return self.exported or Path(folder_for(self.folder, "models", reading=True), "model.pt")

    def require_weights(self) -> Path:
        """``weights``, which exist.

        Raises:
            FileNotFoundError: if there are none; says how to get some.
        """
        if not self.weights.is_file():
            raise FileNotFoundError(
                f"monai_ext: bundle {self.name}: no weights at {self.weights}. Train it (python -m monai.bundle run "
                f"--config_file {self.folder / 'configs' / 'train.json'}), or put some there."
            )
        return self.weights

    def config_file(self, name: str) -> Path:
        """Where the config of that name is, such as ``inference``."""
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

    def network(self, checkpoint: str | os.PathLike | None = None) -> torch.nn.Module:
        """The network with its weights, loaded strictly, in evaluation mode, on the CPU.

        Args:
            checkpoint: weights instead of the bundle's own.

        Raises:
            FileNotFoundError: if there are no weights.
            ValueError: if they are of another network.
        """
        import torch

        if self.exported and checkpoint is None:
            return torch.jit.load(str(self.exported), map_location="cpu").eval()
        from monai_ext.networks import load_weights

        network = self.parser(**({} if checkpoint is None else {"ckpt_path": str(checkpoint)})).get_parsed_content(
            "network_def"
        )
        load_weights(network, self.require_weights() if checkpoint is None else checkpoint)
        return network.eval()

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
            files: names of the configs to merge, such as ``["inference", "ensemble_inference"]``; by default those of
                the kind.
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
            return _checked(noted, self.exported)
        return trained_with(self.weights)

    def default(self, knob: str, name: str = "train") -> Any:
        """The recipe's value of a knob, which weights may have another of (``as_trained`` in the config)."""
        from monai.bundle import ConfigParser

        given = self.config(name).get(knob)
        return ConfigParser({"as_trained": {}, knob: given}).get_parsed_content(knob)

    def mixed_precision(self, device: str | torch.device) -> bool:
        """Whether its inference computes in mixed precision there: on a GPU, unless ``amp`` is false."""
        return mixed_precision(self.config("inference").get("amp", False), device)


def _is_bundle(folder: Path) -> bool:
    return os.path.isfile(folder.joinpath(*_TAIL))  # False for a name that cannot be one, too


def collection() -> Path:
    """Where the bundles of this collection are: inside the installed package, or in the checkout beside it."""
    installed = _PACKAGE / "bundles"
    return installed if installed.is_dir() else _PACKAGE.parent / "bundles"


def folder_for(root: str | os.PathLike, part: str, reading: bool = False) -> str:
    """Where a bundle keeps a part of its results: its own folder, or the user's where that is not to be written to.

    Nothing is written into an installed package, or into a folder that the user may not write to: what such a bundle
    makes lies in ``$XDG_DATA_HOME/monai_ext`` (``~/.local/share/monai_ext``), and the log says so.

    Args:
        root: the bundle's folder.
        part: ``"models"`` or ``"eval"``.
        reading: what is only read is taken from the bundle itself, unless the user's folder has it.

    Examples::

        >>> folder_for("bundles/dcaunet_synapse", "models")
        'bundles/dcaunet_synapse/models'
    """
    own = Path(root) / part
    absolute = Path(root).resolve()
    installed = absolute.is_relative_to(_PACKAGE)
    place = own if own.is_dir() else Path(root)
    if not absolute.is_dir() or (not installed and os.access(place, os.W_OK)):
        return f"{os.fspath(root)}/{part}"
    # two bundles of one name, in two places, share nothing
    name = absolute.name if installed else f"{absolute.name}-{hashlib.sha256(os.fsencode(absolute)).hexdigest()[:8]}"
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    user = home / "monai_ext" / name / part
    if reading and own.is_dir() and not user.is_dir():
        return f"{os.fspath(root)}/{part}"
    if not reading:
        logger.warning("monai_ext: %s is not written to; its %s folder is %s.", root, part, user)
    return str(user)


@dataclass(frozen=True)
class Running:
    """The run of a bundle that code is called from.

    Attributes:
        parser: of its config, overrides included.
        folders: of its config files, the first file's first.
        exported: the weights that a command of MONAI's exports, if it does.
    """

    parser: ConfigParser
    folders: tuple[Path, ...]
    exported: Path | None = None

    @property
    def bundle(self) -> Path | None:
        """The bundle whose config it is."""
        roots = (_root_of(folder) for folder in self.folders)
        return next((root for root in roots if root is not None), None)


def running(warn: bool = True) -> Running | None:
    """The workflow or command of MONAI's that this code is called from; None, and a warning, if there is none.

    MONAI hands neither the name of a config nor its content to what the config calls, so the callers are looked
    through: a ``ConfigWorkflow``, or one of the functions of ``monai.bundle`` that read a config themselves.
    """
    monai = sys.modules.get("monai.bundle")  # without it nothing is being run
    parser: ConfigParser | None = None
    folders: list[Path] = []
    exported: Path | None = None
    for names in _callers() if monai else ():
        owner, candidate = names.get("self"), names.get("parser")
        files = names.get("config_file_", names.get("config_file"))
        if isinstance(owner, monai.ConfigWorkflow):  # type: ignore[union-attr]
            candidate = owner.parser
            folders.append(Path(owner.config_root_path))
        elif isinstance(owner, monai.ConfigParser):  # type: ignore[union-attr]
            candidate = owner
        elif names["__name__"] == "monai.bundle.scripts" and files:
            folders += [Path(file).parent for file in _listed(files)]
            if isinstance(weights := names.get("ckpt_file_"), (str, os.PathLike)):
                exported = Path(weights)
        if parser is None and isinstance(candidate, monai.ConfigParser):  # type: ignore[union-attr]
            parser = candidate
    if parser is None:
        if warn:
            logger.warning("monai_ext: the config that is being run could not be told.")
        return None
    return Running(parser, tuple(dict.fromkeys(folders)), exported)


def _listed(files: Any) -> list[str]:
    """Config files as MONAI's commands take them: one, several, or several in one text."""
    if isinstance(files, str):
        return [files] if os.path.isfile(files) else files.split(",")
    return [os.fspath(file) for file in files] if isinstance(files, Sequence) else [os.fspath(files)]


def _callers() -> Iterator[dict[str, Any]]:
    """What the callers, innermost first, have in their hands, and the module of each."""
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        yield {**frame.f_locals, "__name__": frame.f_globals.get("__name__", "")}


def _root_of(configs: Path) -> Path | None:
    """The bundle that a folder of configs belongs to."""
    if configs.absolute().name != "configs":
        return None
    root = configs.parent if configs.name == "configs" else configs / ".."
    return root if _is_bundle(root) else None


def bundle_root(name: str) -> str:
    """The folder of the bundle that is being run: a bundle is where its config is.

    A bundle's config calls this for its ``bundle_root``. In this order: ``--bundle_root DIR`` of the command line; the
    folder of the config file that is being run; the current folder if it is a bundle, whatever its name; the known
    bundle of that name. A copied, renamed or moved bundle reads and writes what is its own.

    Args:
        name: the bundle's folder name, such as ``"dcaunet_synapse"``, for where no config is being run.

    Raises:
        FileNotFoundError: if none of these is a bundle.

    Examples::

        >>> bundle_root("dcaunet_synapse")  # in the repository root
        'bundles/dcaunet_synapse'
    """
    run = running()
    if run is not None and run.bundle is not None:
        return str(run.bundle)
    if _is_bundle(Path(".")):
        return "."
    known = Bundle.known()
    if name in known:
        logger.warning(
            "monai_ext: the config that is being run lies in no bundle's folder; %s is taken. Give another with "
            "--bundle_root.",
            known[name].folder,
        )
        return str(known[name].folder)
    raise FileNotFoundError(
        f"monai_ext: bundle {name!r} found neither in {Path.cwd()}, {Path.cwd() / 'bundles'} nor {collection()}. "
        "Give its folder with --bundle_root."
    )


def known_bundles() -> dict[str, Path]:
    """Name -> folder of the bundles below the current folder and of those that this library came with."""
    return {name: bundle.folder for name, bundle in Bundle.known().items()}


def find_bundle(name: str | os.PathLike) -> Path:
    """The folder of a bundle given by its name or as a folder, see :meth:`Bundle.find`."""
    return Bundle.find(name).folder


def literal(value: Any) -> Any:
    """A value that a config takes as it is, whatever text it holds.

    MONAI's parser runs a text that begins with ``$``, replaces ``@`` by what it refers to, reads the file that ``%``
    names, and writes ``::`` for ``#`` anywhere. A text with one of these comes back as an expression for itself; other
    values are unchanged. MONAI looks into lists and mappings, so this does too, but not into tuples.

    Examples::

        >>> literal("scan.nii.gz"), literal("$1+1"), literal("a@b")
        ('scan.nii.gz', "$'$1+1'", "$'a\\\\x40b'")
    """
    if isinstance(value, str) and (value.startswith(("$", "%")) or "@" in value or "#" in value):
        return "$" + ascii(str(value)).replace("@", "\\x40").replace("#", "\\x23")
    if isinstance(value, Mapping):
        return {key: literal(inner) for key, inner in value.items()}
    return [literal(inner) for inner in value] if isinstance(value, list) else value


def mixed_precision(amp: bool | int | str | None, device: str | int | torch.device) -> bool:
    """Whether to compute in mixed precision: if ``amp`` says so, on a GPU. Both as a command line gives them, too."""
    import torch

    return flag(amp) and torch.device(device).type == "cuda"


def use_device(device: str | int | torch.device) -> None:
    """Make a GPU the current one; nothing to do for another device, or one without a number."""
    import torch

    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)


# knobs that preprocessing depends on: what weights were trained with is what they are used with
PREPROCESSING = ("image_size", "intensity_window")
_STAMP = "monai_ext"  # key in a state_dict's metadata, which PyTorch keeps in the file and loading ignores


def stamp(state_dict: Any, trained_with: Mapping[str, Any]) -> Any:
    """Write into a network's ``state_dict`` what its preprocessing was, so that it travels with the weights.

    It goes where PyTorch keeps the versions of modules: inside the file, and no key of the ``state_dict``.

    Args:
        state_dict: what ``network.state_dict()`` gave; changed in place.
        trained_with: knob -> value, plain ones, such as ``{"image_size": [224, 224]}``.
    """
    if trained_with and hasattr(state_dict, "_metadata"):
        plain = {knob: list(v) if isinstance(v, (tuple, list)) else v for knob, v in trained_with.items()}
        state_dict._metadata.setdefault("", {})[_STAMP] = plain
    return state_dict


def note_trained_with() -> None:
    """Write what the weights were trained with into the metadata of the model that is being exported.

    The network of an ``inference.json`` requires it, since MONAI's ``ckpt_export`` looks at nothing else. Without an
    export there is nothing to do.
    """
    run = running(warn=False)
    if run is not None and run.exported is not None and (noted := trained_with(run.exported)):
        run.parser.get().setdefault("_meta_", {})["trained_with"] = noted


def trained_with(weights: str | os.PathLike | Sequence[str | os.PathLike] | None) -> dict[str, Any]:
    """What the preprocessing of weights was when they were trained: knob -> value.

    It is in the weights file; of files older than that, in ``run_training.json`` beside it, or in the bundle's
    ``eval`` if that record is of the training that made them. Empty where nothing is known. ``evaluate.json`` and
    ``inference.json`` take their ``image_size`` and ``intensity_window`` from it.

    Args:
        weights: a weights file, or those of an ensemble.

    Raises:
        ValueError: if the members of an ensemble differ, or a file holds values that no knob can have.

    Examples::

        >>> trained_with("runs/first/model.pt")
        {'image_size': [96, 96], 'intensity_window': [-125, 275]}
    """
    paths = [weights] if isinstance(weights, (str, os.PathLike)) else list(weights or [])
    merged: dict[str, Any] = {}
    origin: dict[str, Any] = {}
    for path in paths:
        for knob, value in _trained_with(Path(path)).items():
            if merged.setdefault(knob, value) != value:
                raise ValueError(
                    f"monai_ext: {path}: trained with {knob} {value}, but {origin[knob]} with {merged[knob]}. Weights "
                    "of different preprocessing cannot be averaged."
                )
            origin.setdefault(knob, path)
    return merged


def _trained_with(path: Path) -> dict[str, Any]:
    found: Any = None
    if path.is_file():
        import torch

        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except Exception:  # who loads the weights says what is wrong with them
            state = None
        for _ in range(2):  # a state_dict, or one under "model" or "state_dict"
            found = found or getattr(state, "_metadata", {}).get("", {}).get(_STAMP)
            state = state.get("model", state.get("state_dict")) if isinstance(state, Mapping) else None
    if found is None:
        found = _trained_config(path)
    return _checked(found, path) if isinstance(found, Mapping) else {}


def _checked(found: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Of what a file notes, the knobs that preprocessing depends on."""
    kept = {knob: found[knob] for knob in PREPROCESSING if found.get(knob) is not None}
    for knob, value in kept.items():
        try:
            kept[knob] = KNOBS[knob](value)
        except ValueError as e:
            raise ValueError(f"monai_ext: {source}: trained with {knob} {value!r}, expected {e}.") from None
    return kept


def _trained_config(weights: Path) -> dict[str, Any] | None:
    """The values that the record of the training that made these weights has, of weights older than their stamp."""
    beside = weights.with_name("run_training.json")
    in_bundle = weights.parent.parent / "eval" / "run_training.json"
    cases = weights.with_suffix(".cases.json")
    try:
        if beside.is_file():
            record = read_json(beside, "record")
        elif in_bundle.is_file() and cases.is_file():
            record = read_json(in_bundle, "record")
            if record["cases"] != read_json(cases, "training cases")["cases"]:
                return None  # of another training
        else:
            return None
        # an expression is the recipe's own
        return {k: v for k in PREPROCESSING if not isinstance(v := record["config"].get(k), str)}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        logger.warning("monai_ext: %s: no record of a training (%s).", weights.parent, e)
        return None


def check_knobs(parser: ConfigParser | None = None) -> None:
    """Make of each knob of a run what it is used as, or refuse it in one line. Configs call it in ``initialize``.

    MONAI hands on what a command line gave: a text for ``true``, a number for a folder called 7. A knob that the
    weights were trained with another value of is told in the log.

    Args:
        parser: of the config; by default that of the run.

    Raises:
        ValueError: for a value that a knob cannot have; knob, value and what is expected are named.
    """
    if parser is None:
        run = running()
        if run is None:
            return
        parser = run.parser
    changed = False
    for knob in KNOBS:
        given = parser.get(knob)
        if knob not in parser or (isinstance(given, str) and given.startswith(("$", "@", "%"))):
            continue  # the recipe's own
        value = knob_value(knob, given)
        if knob == "image_size":
            value = _as_recipe(value, parser)
        if type(value) is not type(given) or value != given:
            parser[knob] = literal(value)
            changed = True
    if changed:
        parser.parse(reset=True)  # MONAI forgets what it has parsed when a value is set
    if "as_trained" in parser:
        for knob, value in parser.get_parsed_content("as_trained").items():
            used = parser.get_parsed_content(knob) if knob in parser else value
            if _same_size(used) != _same_size(value):
                logger.warning(
                    "monai_ext: --%s %s is given, but the weights were trained with %s.",
                    knob,
                    as_json(used),
                    as_json(value),
                )


def _as_recipe(size: int | list[int] | None, parser: ConfigParser) -> int | list[int] | None:
    """One side where the recipe has one, else one for each axis."""
    axes = parser.get("network_def#spatial_dims", 2)
    root = Path(parser.get_parsed_content("bundle_root")) if "bundle_root" in parser else None
    recipe = Bundle(root).default("image_size") if root is not None and _is_bundle(root) else None
    if isinstance(size, list) and isinstance(recipe, int):
        raise ValueError(f"monai_ext: --image_size {as_json(size)}: expected one whole number, the longer side.")
    if not isinstance(axes, int) or size is None or isinstance(recipe, int):
        return size
    sides = [size] if isinstance(size, int) else size
    if len(sides) not in (1, axes):
        raise ValueError(f"monai_ext: --image_size {as_json(size)}: expected one whole number, or {axes}.")
    return sides * axes if len(sides) == 1 else sides


def _same_size(value: Any) -> Any:
    """One number for all axes, or that number for each: the same."""
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    return sides[0] if len(set(sides)) == 1 else sides
