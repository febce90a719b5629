# SPDX-License-Identifier: Apache-2.0
"""The values of frames, unpacked by pydicom's decoders and rescaled each by its own slope and intercept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.pixels import apply_modality_lut, get_decoder, iter_pixels
from pydicom.uid import JPEGExtended12Bit

from monai_ext.data.files.dicom.frames import Frame
from monai_ext.data.files.dicom.headers import data_set, require, text
from monai_ext.data.files.guards import damaged, unusable

__all__ = ["read_frames"]

ORIGINAL = "Take the series as the scanner made it."


def read_frames(frames: Sequence[Frame]) -> np.ndarray:
    """Values of frames of one size, ``(frames, rows, columns)`` in float32; each file is read once.

    Raises:
        ValueError: if a file is damaged, in colour, or compressed in a way for which no decoder is installed; it is
            named.
    """
    values = np.empty((len(frames), *frames[0].size), dtype=np.float32)
    files: dict[str, list[int]] = {}
    for place, frame in enumerate(frames):
        files.setdefault(frame.header.path, []).append(place)
    for file, places in files.items():
        first = frames[places[0]]
        _check_kind(first)
        try:
            ds = data_set(file)
            stored = int(ds.get("BitsStored") or ds.BitsAllocated)
            decoded = iter_pixels(ds, indices=[frames[place].index for place in places])
            for place, pixels in zip(places, decoded, strict=True):
                unused = pixels.dtype.itemsize * 8 - stored
                if pixels.dtype.kind in "iu" and unused > 0:  # bits above the stored ones may hold anything
                    pixels = (pixels << unused) >> unused
                values[place] = apply_modality_lut(pixels, frames[place].rescale)
        except Exception as e:  # decoders raise anything
            raise damaged(file, e, b"DICM") from e
    return values


def _check_kind(frame: Frame) -> None:
    ds, file, syntax = frame.source, frame.header.path, frame.header.syntax
    if int(ds.get("SamplesPerPixel") or 1) != 1:
        raise unusable(file, f"colour ({ds.SamplesPerPixel} values per pixel), expected one value", ORIGINAL)
    if "PALETTE" in text(ds, "PhotometricInterpretation").upper():
        raise unusable(file, "its pixels are numbers of colours in a palette, expected intensities", ORIGINAL)
    require(file, ds, "SamplesPerPixel", "PhotometricInterpretation", "BitsStored")
    if "FloatPixelData" not in ds and "DoubleFloatPixelData" not in ds:
        require(file, ds, "PixelRepresentation")
    if "HighBit" in ds and int(ds.HighBit) != int(ds.BitsStored) - 1:
        raise damaged(file, f"bits in an odd place (Bits Stored {ds.BitsStored}, High Bit {ds.HighBit})", b"DICM")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ValueError(
            f"monai_ext: {file}: its pixels are stored as {syntax.name}, which no decoder reads. Have the archive send "
            "the series uncompressed."
        ) from None
    needed = "python-gdcm, pylibjpeg-openjpeg"
    found = set(decoder.available_plugins)
    if syntax == JPEGExtended12Bit and int(ds.BitsStored) > 8:  # of these, GDCM and Pillow have 8 bits only
        found, needed = found - {"gdcm", "pillow"}, "pylibjpeg-libjpeg, under the GPL"
    if not found and syntax.is_encapsulated:
        raise ValueError(
            f"monai_ext: {file}: its pixels are compressed as {syntax.name}, for which no decoder is installed. Have "
            f"the archive send the series uncompressed, or install a decoder that pydicom uses ({needed})."
        )
