# SPDX-License-Identifier: Apache-2.0
"""Write a cohort of picture phantoms in the tree and the file formats of a published dataset."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_ext.phantoms.cohort import holds_files, place_to_write, read_marker, run_cases, write_marker
from monai_ext.phantoms.drawing import PictureCase
from monai_ext.utils import replacing

__all__ = ["save_mask", "save_picture", "seed_and_size", "split_counts", "write_picture_cohort"]

SIZE = (192, 256)


def save_picture(path: Path, pixels: NDArray[Any]) -> None:
    """Write a picture; its suffix says in which format."""
    options: dict[str, Any] = {}
    if path.suffix in (".jpg", ".jpeg"):
        options = {"quality": 92}
    elif path.suffix in (".tif", ".tiff"):
        options = {"compression": "tiff_lzw"}
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, **options)


def save_mask(path: Path, made: PictureCase) -> None:
    """Write all objects in white on black."""
    save_picture(path, np.where(made.objects > 0, 255, 0).astype(np.uint8))


def split_counts(cases: int, shares: Sequence[float]) -> list[int]:
    """How many cases each part of a split has; ``shares`` are those of all parts but the first.

    Raises:
        ValueError: if ``cases`` is too few for a part and two training cases.
    """
    others = [max(1, round(cases * share)) for share in shares]
    if cases - sum(others) < 2:
        raise ValueError(f"monai_ext: {cases} phantom cases are too few, at least {len(others) + 2} are needed.")
    return [cases - sum(others), *others]


def seed_and_size(name: str, case: str, seed: int = 0) -> tuple[int, tuple[int, int]]:
    """What a case of a cohort is drawn with; it does not depend on the other cases.

    Examples::

        >>> kvasir_case = polyp_case(*seed_and_size("kvasir", "cju0000000000000000000000"))
    """
    case_seed = zlib.crc32(f"{name} {seed} {case}".encode())
    height, width = (np.array(SIZE) * np.random.default_rng(case_seed).uniform(0.85, 1.15, 2)).astype(int).tolist()
    return case_seed, (height, width)


def write_picture_cohort(
    folder: Path,
    name: str,
    files: Mapping[str, tuple[Path, Path]],
    draw: Callable[[str, int, tuple[int, int]], PictureCase],
    save_label: Callable[[Path, PictureCase], None] = save_mask,
    save_image: Callable[[Path, NDArray[Any]], None] = save_picture,
    seed: int = 0,
) -> None:
    """Write phantom pictures, their masks and ``PHANTOM.json``; all appear in one step, or what a cohort has lost.

    Args:
        folder: where to write; made if need be.
        name: of the dataset; another name, other pictures.
        files: case id -> image and mask, relative to ``folder``.
        draw: case id, seed and size -> the case.
        save_label: writes a case's mask.
        save_image: writes its image.
        seed: another seed, another cohort.

    Raises:
        ValueError: if ``folder`` holds other data, or another cohort. They are left alone.
    """
    cohort: dict[str, Any] = {"generator": f"monai_ext {name} phantom 1", "seed": seed, "cases": list(files)}
    with place_to_write(folder) as place:
        found = read_marker(place)
        if found is None and holds_files(place):
            raise ValueError(f"monai_ext: {folder}: holds files that are of no phantom cohort. Give another folder.")
        if found is not None and any(found.get(key) != value for key, value in cohort.items()):
            raise ValueError(
                f"monai_ext: {folder}: holds another phantom cohort ({found.get('generator')}, seed "
                f"{found.get('seed')}, {len(found.get('cases', ()))} cases). Give another folder, or delete this one."
            )

        def make(case: str) -> None:
            image, label = (place / path for path in files[case])
            made = draw(case, *seed_and_size(name, case, seed))
            save_label(label, made)
            save_image(image, made.image)  # last: an image means a complete case

        missing = [case for case, (image, _) in files.items() if not (place / image).exists()]
        run_cases(make, missing, None, True, f"{name} phantom")
        if found is None:
            write_marker(place, **cohort)
