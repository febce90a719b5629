# SPDX-License-Identifier: Apache-2.0
"""Colour images and their masks from every picture format the datasets use, with one set of checks."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from PIL import Image, UnidentifiedImageError
from scipy.ndimage import maximum_filter, minimum_filter

from monai_ext.data.files.file_reader import FileReader
from monai_ext.data.files.finding import find_cases
from monai_ext.data.files.guards import require_file

__all__ = ["CODINGS", "MaskReader", "PictureReader", "check_picture_pair", "find_pictures", "is_picture"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
CODINGS = ("classes", "instances", "neopolyp")
POLYGONS = re.compile(
    r"(?P<file>.+\.xml)::(?P<image>.+)$", re.IGNORECASE
)  # outlines of objects on the grid of an image
# so far from an outline JPEG leaves grey where black or white was: it works in blocks, of colour in larger ones
EDGE, COLOUR_EDGE = 8, 16


class _Reader(FileReader):
    """``(H, W)`` or ``(H, W, C)``, row 0 at the top; for ``LoadImaged(reader=...)``."""

    @staticmethod
    def meta(array: np.ndarray) -> dict:
        return {
            MetaKeys.AFFINE: np.eye(3),
            MetaKeys.ORIGINAL_AFFINE: np.eye(3),
            MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape[:2]),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if array.ndim == 3 else float("nan"),
        }


class PictureReader(_Reader):
    """Read a PNG, JPEG, TIFF or BMP as RGB, ``(H, W, 3)`` of uint8.

    Grey and palette images become RGB, and an alpha channel that hides nothing is dropped.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is damaged, has more than 8 bits a channel, several pages, or transparent pixels.

    Examples::

        >>> LoadImaged(keys="image", reader=PictureReader)({"image": "ISIC_0000000.jpg"})["image"].shape
        torch.Size([767, 1022, 3])
    """

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        if len(img) != 1:
            raise ValueError(f"monai_ext: one file per image expected, got {len(img)}: {', '.join(map(str, img))}.")
        path = str(img[0])
        with _open(path) as picture:
            if (pages := _pages(path, picture)) > 1:
                raise ValueError(f"monai_ext: {path}: {pages} pages, expected one image.")
            if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
                raise ValueError(
                    f"monai_ext: {path}: pixels of mode {picture.mode} (more than 8 bits a channel), expected 8-bit "
                    "colour or grey. Convert it with the window that a viewer would use."
                )
            pixels = np.asarray(_converted(path, picture, "RGBA" if picture.has_transparency_data else "RGB"))
        if pixels.shape[2] == 4:
            if pixels[..., 3].min() < 255:
                raise ValueError(f"monai_ext: {path}: has transparent pixels. Save it without an alpha channel.")
            pixels = pixels[..., :3]
        return pixels, self.meta(pixels)


class MaskReader(_Reader):
    """Read one or more pictures of a mask, united, as classes ``(H, W)`` of uint8.

    Args:
        coding: what pixels hold. ``"classes"``: the class numbers, and with two classes also black and white (255, or
            65535), with the grey that JPEG and smoothing leave along outlines. ``"instances"``: 0, or the number of an
            object, all of class 1. ``"neopolyp"``: black, red (neoplastic) or green (non-neoplastic): classes 0, 2, 1,
            or with two classes 0, 1, 1.
        num_classes: number of classes, background included.

    A file named ``FILE.xml::IMAGE`` holds outlines (ImageScope's), drawn on the grid of that image: a pixel is inside
    if its centre is.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if it is damaged, its values are not those of the coding (says which), or several differ in size.

    Examples::

        >>> LoadImaged(keys="label", reader=MaskReader("classes", 2))({"label": ["one_mask.png", "one_mask_1.png"]})
    """

    def __init__(self, coding: str = "classes", num_classes: int = 2) -> None:
        if coding not in CODINGS:
            raise ValueError(f"monai_ext: MaskReader: coding must be one of {', '.join(CODINGS)}, got {coding!r}.")
        self.coding = coding
        self.num_classes = num_classes

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        united: np.ndarray | None = None
        for path in map(str, img):
            mask = self._classes(path)
            if united is not None and mask.shape != united.shape:
                raise ValueError(f"monai_ext: {path}: {_size(mask)} pixels, but {img[0]} has {_size(united)}.")
            united = mask if united is None else np.maximum(united, mask)
        if united is None:
            raise ValueError("monai_ext: no mask file given.")
        return united, self.meta(united)

    def _classes(self, path: str) -> np.ndarray:
        if match := POLYGONS.match(path):
            return _draw_polygons(match["file"], match["image"])
        with _open(path) as picture:
            if self.coding == "neopolyp":
                return self._neopolyp(path, np.asarray(_converted(path, picture, "RGB")))
            pixels = np.asarray(_loaded(path, picture))
            if picture.mode in ("LA", "RGBA") and pixels[..., -1].min() < 255:
                raise ValueError(f"monai_ext: {path}: has transparent pixels. Save it without an alpha channel.")
            if picture.mode == "LA":
                pixels = pixels[..., 0]
            elif picture.mode == "P" and self.coding == "classes" and self.num_classes == 2:
                shown = np.asarray(picture.convert("RGB"))
                # a palette of grey may have black and white in any order; one of colours only makes classes visible
                pixels = shown if (shown == shown[..., :1]).all() else pixels
        if pixels.ndim == 3:
            # of grey saved as colour one channel is all there is
            if (pixels[..., :3] != pixels[..., :1]).any():
                raise ValueError(f"monai_ext: {path}: a coloured mask, expected grey values.")
            pixels = pixels[..., 0]
        if self.coding == "instances":
            return (pixels > 0).astype(np.uint8)
        odd = (pixels < 0) | (pixels >= self.num_classes)
        if not odd.any():
            return pixels.astype(np.uint8)
        if self.num_classes == 2:
            white = 65535 if pixels.max() > 255 else 255
            mask = pixels > white / 2
            # where values are few nothing was compressed, and the dark ones are classes of another coding
            darkest = white / 8 if mask.any() and np.unique(pixels).size > 8 else 0
            odd = (pixels > darkest) & (pixels < white * 7 / 8)
            if odd.any():
                odd &= ~_near_outline(mask, EDGE)
            if not odd.any():
                return mask.astype(np.uint8)
        expected = "0 and 255, or 0 and 1" if self.num_classes == 2 else f"0 to {self.num_classes - 1}"
        raise ValueError(f"monai_ext: {path}: mask values {np.unique(pixels[odd])[:8].tolist()}, expected {expected}.")

    def _neopolyp(self, path: str, pixels: np.ndarray) -> np.ndarray:
        red, green, blue = (pixels[..., i].astype(np.int16) for i in range(3))
        classes = np.where(red > 127, 2, np.where(green > 127, 1, 0)).astype(np.uint8)
        odd = ((red > 127) & (green > 127)) | (blue > 127) | ((classes == 0) & (pixels.max(axis=2) > 63))
        if odd.any():
            odd &= ~_near_outline(classes, COLOUR_EDGE)
        if odd.any():
            found = np.unique(pixels[odd], axis=0)[:4].tolist()
            raise ValueError(f"monai_ext: {path}: mask colours {found}, expected black, red and green.")
        return np.minimum(classes, self.num_classes - 1)


def is_picture(path: str | os.PathLike) -> bool:
    """Whether a file name is that of a picture, so that it has neither slices nor an affine."""
    return str(path).lower().endswith(SUFFIXES)


def find_pictures(path: str | os.PathLike) -> list[dict[str, str]]:
    """One picture, or all below a folder; labels of ours are passed over.

    Returns:
        cases with ``image``, the path, and ``case_id``, the name of its label: see ``data.files.finding.find_cases``.

    Raises:
        FileNotFoundError: if there is no such path, or no picture in it.
        ValueError: if two would have one name.
    """
    if cases := find_cases(path, is_picture):
        return cases
    raise FileNotFoundError(f"monai_ext: {path}: no picture found. Expected files ending in {', '.join(SUFFIXES)}.")


def check_picture_pair(case: dict[str, Any]) -> None:
    """A picture and its masks must be of one size; read from the headers, so it costs little.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if one is damaged or of another size.
    """
    size = _header_size(case["image"])
    for path in ensure_tuple(case["label"]):
        match = POLYGONS.match(str(path))
        if match:
            if not Path(match["file"]).is_file():
                raise FileNotFoundError(f"monai_ext: {match['file']}: no such file.")
            continue
        found = _header_size(path)
        if found != size:
            raise ValueError(
                f"monai_ext: {path}: {found[0]}x{found[1]} pixels, but {Path(case['image']).name} has "
                f"{size[0]}x{size[1]}. Get the pair again, or leave case {case['case_id']} out with --exclude."
            )


def _header_size(path: str) -> tuple[int, int]:
    with _open(path) as picture:
        return picture.size


def _open(path: str) -> Image.Image:
    require_file(path)
    try:
        return Image.open(path, formats=FORMATS)  # of others some start programs: EPS does
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise _unreadable(path, e) from e


def _pages(path: str, picture: Image.Image) -> int:
    try:
        return getattr(picture, "n_frames", 1)  # a TIFF is gone through
    except (OSError, ValueError, TypeError, SyntaxError, EOFError) as e:
        raise _unreadable(path, e) from e


def _loaded(path: str, picture: Image.Image) -> Image.Image:
    try:
        picture.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as e:
        raise _unreadable(path, e) from e
    return picture


def _converted(path: str, picture: Image.Image, mode: str) -> Image.Image:
    return _loaded(path, picture).convert(mode)


def _near_outline(classes: np.ndarray, distance: int) -> np.ndarray:
    """Where the classes change within ``distance`` pixels."""
    size = 2 * distance + 1
    values = classes.astype(np.uint8)
    return maximum_filter(values, size) != minimum_filter(values, size)


def _draw_polygons(file: str, image: str) -> np.ndarray:
    try:
        root = ElementTree.parse(file).getroot()
    except FileNotFoundError as e:
        raise FileNotFoundError(f"monai_ext: {file}: no such file.") from e
    except ElementTree.ParseError as e:
        raise ValueError(f"monai_ext: {file}: no valid XML ({e}).") from e
    width, height = _header_size(image)
    mask = np.zeros((height, width), np.uint8)
    if root.find(".//Region") is None:
        raise ValueError(f"monai_ext: {file}: no outlines, expected ImageScope's Annotation, Region and Vertex.")
    for region in root.iter("Region"):
        try:
            points = [(float(v.attrib["X"]), float(v.attrib["Y"])) for v in region.iter("Vertex")]
        except (KeyError, ValueError) as e:
            raise ValueError(f"monai_ext: {file}: a vertex without the numbers X and Y ({e}).") from e
        if len(points) > 2:
            _draw_polygon(mask, np.array(points))
    return mask


def _draw_polygon(mask: np.ndarray, points: np.ndarray) -> None:
    """Set the pixels whose centres are inside; the first pixel's corner is (0, 0), its centre (0.5, 0.5)."""
    from matplotlib.path import Path as Outline  # of all pictures only these need it, and it takes a while to import

    size = np.array(mask.shape[::-1])
    left, top = np.clip(np.floor(points.min(axis=0)), 0, size).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, size).astype(int)
    if left < right and top < bottom:
        grid = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), axis=-1) + 0.5
        inside = Outline(points).contains_points(grid.reshape(-1, 2)).reshape(grid.shape[:2])
        mask[top:bottom, left:right] |= inside.astype(np.uint8)


def _size(mask: np.ndarray) -> str:
    return f"{mask.shape[1]}x{mask.shape[0]}"


def _unreadable(path: str, reason: object) -> ValueError:
    text = str(reason).strip().splitlines()
    return ValueError(
        f"monai_ext: {path}: cannot be read ({text[-1] if text else type(reason).__name__}). The file is damaged, cut "
        "off, or no picture; get it again."
    )
