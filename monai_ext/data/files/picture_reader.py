# SPDX-License-Identifier: Apache-2.0
"""Colour images and their masks from every picture format the datasets use, with one set of checks."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from monai.data import MetaTensor
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys, ensure_tuple
from PIL import Image, UnidentifiedImageError
from scipy.ndimage import maximum_filter, minimum_filter

from monai_ext.data.files.case_finder import find_cases
from monai_ext.data.files.file_reader import FileReader
from monai_ext.data.files.guards import is_note, require_file, stranger, unusable
from monai_ext.transforms import MapLabelsd
from monai_ext.utils import whole_numbers

__all__ = ["CODINGS", "MaskReader", "PictureReader", "check_picture_pair", "find_pictures", "is_picture"]

logger = logging.getLogger(__name__)
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# endings of pictures that are not read, and what they are
OTHERS = {
    (".webp",): "a WebP picture",
    (".gif",): "a GIF picture",
    (".jp2", ".j2k", ".jpx"): "a JPEG 2000 picture",
    (".heic", ".heif", ".avif"): "an HEIF or AVIF picture",
    (".ppm", ".pgm", ".pbm", ".pnm"): "a Netpbm picture",
    (".tga", ".pcx", ".psd"): "a picture of a painting program",
    (".dng", ".cr2", ".cr3", ".nef", ".arw"): "a camera's raw picture",
    (".svs", ".ndpi", ".mrxs", ".scn"): "a slide scanner's picture",
    (".dcm",): "a DICOM file",
}
CODINGS = ("classes", "instances", "neopolyp")
POLYGONS = re.compile(
    r"(?P<file>.+\.xml)::(?P<image>.+)$", re.IGNORECASE
)  # outlines of objects on the grid of an image
# so far from an outline JPEG leaves grey where black or white was: it works in blocks, of colour in larger ones
EDGE, COLOUR_EDGE = 8, 16
SMOOTHED, COLOUR_SMOOTHED = 1, 2  # the same of a smaller copy of a mask that was saved without loss
FEW = 8  # more greys than these nobody draws
LOSSY = ("jpeg", "tiff_jpeg", "webp", "jpeg2000")  # compressions of TIFF
ORIENTATION = 0x0112  # tag of EXIF and TIFF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TO_8_BITS = "Convert it to 8 bits with the window that a viewer would use."
ONE_PAGE = "Save the one that is meant as a picture of its own."


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

    Grey, palette and CMYK images become RGB, and an alpha channel that hides nothing is dropped. An image is turned as
    its EXIF or TIFF orientation says: rows and columns are those that viewers show, on which masks are drawn, and a
    label that is written for it is upright without an orientation of its own.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is damaged, has more than 8 bits a channel, channels of an unknown meaning, several pages, or
            transparent pixels.

    Examples::

        >>> LoadImaged(keys="image", reader=PictureReader)({"image": "ISIC_0000000.jpg"})["image"].shape
        torch.Size([767, 1022, 3])
    """

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        if len(img) != 1:
            raise ValueError(f"monai_ext: one file per image expected, got {len(img)}: {', '.join(map(str, img))}.")
        path = str(img[0])
        with _open(path) as picture:
            _check_stored(path, picture)
            if (bits := _bits(path, picture)) > 8:
                raise unusable(path, f"{bits} bits a channel, expected 8", TO_8_BITS)
            if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
                raise unusable(path, f"pixels of mode {picture.mode}, expected colour (RGB) or grey", "Save it as RGB.")
            pixels = np.asarray(_loaded(path, picture).convert("RGBA" if picture.has_transparency_data else "RGB"))
        if pixels.shape[2] == 4:
            if pixels[..., 3].min() < 255:
                raise ValueError(f"monai_ext: {path}: has transparent pixels. Save it without an alpha channel.")
            pixels = pixels[..., :3]
        return pixels, self.meta(pixels)


class MaskReader(_Reader):
    """Read one or more pictures of a mask, united, as classes ``(H, W)`` of uint8.

    Args:
        coding: what pixels hold. ``"classes"``: the class numbers, and with two classes also black and white (255, or
            65535), with the grey that JPEG and smoothing leave along outlines; a grey that only a class can have is
            refused. ``"instances"``: 0, or the number of an object, all of class 1. ``"neopolyp"``: black, red
            (neoplastic) or green (non-neoplastic): classes 0, 2, 1, or with two classes 0, 1, 1. Or a mapping of the
            values to classes, and to 255 for what nobody has looked at; others are refused.
        num_classes: number of classes, background included.

    A file named ``FILE.xml::IMAGE`` holds outlines (ImageScope's), drawn on the grid of that image: a pixel is inside
    if its centre is. Values within 0.001 of a whole number (TIFF of real numbers) are that number. JPEG changes values,
    so that it may hold black and white, and colours of polyps, but no numbers of classes or objects.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if it is damaged, its values are not those of the coding (says which), or several differ in size.

    Examples::

        >>> LoadImaged(keys="label", reader=MaskReader("classes", 2))({"label": ["one_mask.png", "one_mask_1.png"]})
    """

    def __init__(self, coding: str | Mapping[int, int] = "classes", num_classes: int = 2) -> None:
        self.mapped: MapLabelsd | None = None
        if isinstance(coding, Mapping):
            self.mapped, coding = MapLabelsd("label", num_classes, coding), "classes"
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
            _check_stored(path, picture)
            lossy = _is_lossy(picture)
            if self.coding == "neopolyp":
                return self._neopolyp(path, np.asarray(_loaded(path, picture).convert("RGB")), lossy)
            if picture.mode in ("CMYK", "LAB", "HSV"):
                raise ValueError(f"monai_ext: {path}: a coloured mask ({picture.mode}), expected grey values.")
            mode, upright = picture.mode, _loaded(path, picture)
            pixels = np.asarray(upright.convert("RGB") if mode == "YCbCr" else upright)
            if mode == "P" and self.coding == "classes" and self.num_classes == 2 and not self.mapped:
                shown = np.asarray(upright.convert("RGB"))
                # a palette of grey may have black and white in any order; one of colours only makes classes visible
                pixels = shown if _is_grey(shown) else pixels
        if mode in ("LA", "RGBA"):
            if pixels[..., -1].min() < 255:
                raise ValueError(f"monai_ext: {path}: has transparent pixels. Save it without an alpha channel.")
            pixels = pixels[..., :-1]
        if pixels.ndim == 3:
            # of grey saved as colour one channel is all there is
            if not _is_grey(pixels):
                raise ValueError(f"monai_ext: {path}: a coloured mask, expected grey values.")
            pixels = pixels[..., 0]
        pixels = whole_numbers(pixels, path)
        if lossy and pixels.any() and (self.coding == "instances" or self.num_classes > 2 or self.mapped):
            things = "objects" if self.coding == "instances" else "classes"
            raise unusable(
                path,
                f"numbers of {things} in a JPEG, which changes them",
                "Make the mask again as PNG; what is in the JPEG cannot be told for sure.",
            )
        if self.mapped:
            named = MetaTensor(pixels.astype(np.int64), meta={ImageMetaKey.FILENAME_OR_OBJ: path})
            return self.mapped({"label": named})["label"].numpy()
        odd = pixels < 0
        if not odd.any():
            if self.coding == "instances":
                return (pixels > 0).astype(np.uint8)
            odd = pixels >= self.num_classes
            if not odd.any() and not (lossy and pixels.any()):
                return pixels.astype(np.uint8)
            if self.num_classes == 2:
                mask, odd = _black_and_white(pixels, lossy)
                if not odd.any():
                    return mask.astype(np.uint8)
        expected = "0 and 255, or 0 and 1" if self.num_classes == 2 else f"0 to {self.num_classes - 1}"
        raise ValueError(f"monai_ext: {path}: mask values {np.unique(pixels[odd])[:8].tolist()}, expected {expected}.")

    def _neopolyp(self, path: str, pixels: np.ndarray, lossy: bool) -> np.ndarray:
        red, green, blue = (pixels[..., i].astype(np.int16) for i in range(3))
        classes = np.where(red > 127, 2, np.where(green > 127, 1, 0)).astype(np.uint8)
        odd = ((red > 127) & (green > 127)) | (blue > 127) | ((classes == 0) & (pixels.max(axis=2) > 63))
        if odd.any() and lossy:
            odd &= ~_near_outline(classes, COLOUR_EDGE)
        elif odd.any():  # smoothing mixes the colours beside an outline, and adds none
            odd &= ~(_near_outline(classes, COLOUR_SMOOTHED) & (blue < 64) & (red + green < 320))
        if odd.any():
            found = np.unique(pixels[odd], axis=0)[:4].tolist()
            raise ValueError(f"monai_ext: {path}: mask colours {found}, expected black, red and green.")
        return np.minimum(classes, self.num_classes - 1)


def is_picture(path: str | os.PathLike) -> bool:
    """Whether a file name is that of a picture, so that it has neither slices nor an affine."""
    return str(path).lower().endswith(SUFFIXES) and not is_note(path)


def _other(path: str) -> str | None:
    return next((what for endings, what in OTHERS.items() if path.lower().endswith(endings)), None)


def find_pictures(path: str | os.PathLike) -> list[dict[str, str]]:
    """One picture, or all below a folder; labels of ours are passed over.

    Pictures in formats that are not read are cases too: reading them says what they are.

    Returns:
        cases with ``image``, the path, and ``case_id``, the name of its label: see ``data.files.finding.find_cases``.

    Raises:
        FileNotFoundError: if there is no such path, or no picture in it.
        ValueError: if two would have one name.
    """
    if cases := find_cases(path, lambda name: is_picture(name) or (_other(name) is not None and not is_note(name))):
        return cases
    raise FileNotFoundError(f"monai_ext: {path}: no picture found. Expected files ending in {', '.join(SUFFIXES)}.")


def check_picture_pair(case: dict[str, Any]) -> None:
    """A picture and its masks must be of one size as viewers show them; read from the headers, so it costs little.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if one is damaged or of another size.
    """
    size, turned = _header_size(case["image"])
    for path in ensure_tuple(case["label"]):
        match = POLYGONS.match(str(path))
        if match:
            if not Path(match["file"]).is_file():
                raise FileNotFoundError(f"monai_ext: {match['file']}: no such file.")
            continue
        found, mask_turned = _header_size(path)
        if turned and not mask_turned:
            _warn_of_turns(str(Path(case["image"]).parent))
        if found != size:
            if turned and found == size[::-1]:
                raise unusable(
                    path,
                    f"{found[0]}x{found[1]} pixels, as {Path(case['image']).name} is stored; its EXIF orientation "
                    f"turns that to {size[0]}x{size[1]}, as viewers show it",
                    "Turn the mask as the image, or take the orientation out of the image if it is wrong "
                    "(exiftool -Orientation= FILE).",
                )
            raise ValueError(
                f"monai_ext: {path}: {found[0]}x{found[1]} pixels, but {Path(case['image']).name} has "
                f"{size[0]}x{size[1]}. Get the pair again, or leave case {case['case_id']} out with --exclude."
            )


@lru_cache(maxsize=256)
def _warn_of_turns(folder: str) -> None:
    """Of a turn by 180 degrees, or of a square image, sizes do not tell whether a mask was turned, too."""
    logger.warning(
        f"monai_ext: {folder}: images are turned as their EXIF orientation says, as viewers do; masks have to fit the "
        "turned images."
    )


def _header_size(path: str) -> tuple[tuple[int, int], bool]:
    """Width and height as viewers show a picture, and whether its orientation turns it for that."""
    with _open(path) as picture:
        width, height = picture.size
        if picture.format == "TIFF":  # PIL turns it when it is loaded
            (width,), (height,) = (_tag(path, picture, number) for number in (256, 257))
        turn = _orientation(picture)
        return ((height, width) if turn >= 5 else (width, height)), turn in TURNS


def _orientation(picture: Image.Image) -> int:
    """1, or how the picture has to be turned; what makes no sense is passed over, as viewers do."""
    try:
        if picture.format == "TIFF":
            found = picture.tag_v2.get(ORIENTATION, 1)  # type: ignore[attr-defined]
        else:
            exif = Image.Exif()
            exif.load(picture.info.get("exif", b""))
            found = exif.get(ORIENTATION, 1)
    except Exception:  # damage may raise anything
        return 1
    return found if found in TURNS else 1


def _open(path: str) -> Image.Image:
    require_file(path)
    try:
        return Image.open(path, formats=FORMATS)  # of others some start programs: EPS does
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise _unreadable(path, e) from e


def _check_stored(path: str, picture: Image.Image) -> None:
    """Refuse what PIL would take for something else: further pages and channels, more bits of colours, signs."""
    if (pages := _pages(path, picture)) > 1:
        raise unusable(path, f"{pages} pages, expected one image", ONE_PAGE)
    bits, channels = _bits(path, picture), len(picture.getbands())
    if bits > 8 and channels > 1:
        raise unusable(path, f"{bits} bits a channel of colour or alpha, expected 8", TO_8_BITS)
    if picture.format == "TIFF":
        stored = _tag(path, picture, 277)[0]
        if stored != channels:
            raise unusable(
                path, f"{stored} channels, of which {stored - channels} without a meaning", "Save it as RGB."
            )
        if bits == 8 and 2 in _tag(path, picture, 339):
            raise unusable(path, "signed values of 8 bits, expected unsigned ones", "Save it as 8-bit grey.")
        if bits > 8 and _tag(path, picture, 262)[0] == 0:
            raise unusable(path, f"{bits} bits with 0 as white, expected 0 as black", "Save it with 0 as black.")


def _bits(path: str, picture: Image.Image) -> int:
    """Of a channel in the file: PIL cuts off what is more than 8 where there are several channels."""
    if picture.format == "PNG":
        with open(path, "rb") as file:
            return file.read(25)[24]
    if picture.format == "TIFF":
        return max(_tag(path, picture, 258))
    return 8


def _tag(path: str, picture: Image.Image, number: int) -> tuple[int, ...]:
    """Whole numbers of a TIFF's header; 1 where it has none."""
    try:
        value = picture.tag_v2.get(number, 1)  # type: ignore[attr-defined]
        return tuple(map(int, value if isinstance(value, tuple) else (value,))) or (1,)
    except Exception as e:  # damage may raise anything
        raise _unreadable(path, e) from e


def _is_lossy(picture: Image.Image) -> bool:
    return picture.format in ("JPEG", "MPO") or (picture.format == "TIFF" and picture.info.get("compression") in LOSSY)


def _pages(path: str, picture: Image.Image) -> int:
    if picture.format == "MPO":  # a camera's JPEG with a preview or a second view behind it, which no viewer shows
        return 1
    try:
        return getattr(picture, "n_frames", 1)  # a TIFF is gone through
    except (OSError, ValueError, TypeError, SyntaxError, EOFError) as e:
        raise _unreadable(path, e) from e


def _loaded(path: str, picture: Image.Image) -> Image.Image:
    """The picture with its pixels, turned as viewers show it."""
    try:
        picture.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as e:
        raise _unreadable(path, e) from e
    turn = None if picture.format == "TIFF" else TURNS.get(_orientation(picture))  # PIL has turned that
    return picture if turn is None else picture.transpose(turn)


def _is_grey(colours: np.ndarray) -> bool:
    return bool((colours == colours[..., :1]).all())


def _black_and_white(pixels: np.ndarray, lossy: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is white, and which pixels are neither white nor black nor a grey that belongs to an outline.

    JPEG leaves grey within a block of 8 pixels of an outline, smoothing right beside it. In a file without loss they
    show as greys of many kinds: one or two are classes, and so are those of one side only, and a grey that fills a
    square.
    """
    white = 65535 if pixels.max() > 255 else 255
    low, high = white / 8, white * 7 / 8
    mask = pixels > white / 2
    if lossy:
        # where values are few nothing was drawn in black and white
        drawn = mask.any() and np.unique(pixels).size > FEW
        odd = (pixels > (low if drawn else 0)) & (pixels < high)
        return mask, odd & ~_near_outline(mask, EDGE) if odd.any() else odd
    odd = (pixels > 0) & (pixels != white)
    greys = np.unique(pixels[odd])
    dark, bright = np.count_nonzero(greys <= low), np.count_nonzero(greys >= high)
    middle = greys.size - dark - bright
    if greys.size > FEW and (middle > 2 or min(dark, bright) > 2):  # a JPEG that was saved again, most often
        filled = _same_within(pixels, 2) & (pixels > low) & (pixels < high)
        odd = ((pixels > white / 64) & (pixels < white * 63 / 64) & ~_near_outline(mask, EDGE)) | filled
        odd |= pixels > white
    elif middle > 2:
        odd &= ~_near_outline(mask, SMOOTHED)
    return mask, odd


def _same_within(values: np.ndarray, distance: int) -> np.ndarray:
    """Where all values within ``distance`` pixels are the same."""
    size = 2 * distance + 1
    return maximum_filter(values, size) == minimum_filter(values, size)


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
    (width, height), _ = _header_size(image)
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
    if text := stranger(path):
        return ValueError(f"monai_ext: {path}: {text}.")
    if what := _other(path):
        return unusable(path, f"is {what}, expected {', '.join(SUFFIXES)}", "Save it as PNG.")
    lines = str(reason).strip().splitlines()
    return ValueError(
        f"monai_ext: {path}: cannot be read ({lines[-1] if lines else type(reason).__name__}). The file is damaged, "
        "cut off, or no picture of a kind that is read; get it again, or save it as PNG of 8 bits."
    )
