# SPDX-License-Identifier: Apache-2.0
"""Write a CT series as a scanner does, for tests; compressed as an archive does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)


def write_ct_series(folder: Path, image: np.ndarray, affine: np.ndarray, prefix: str = "slice") -> None:
    """One file a slice of ``image`` ``(X, Y, Z)`` in HU; ``affine`` is RAS, its third axis the direction of slices."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(image.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.PatientName, ds.PatientID, ds.Modality = "Phantom", "phantom", "CT"
        ds.SeriesNumber, ds.InstanceNumber = 1, k + 1
        ds.ImageOrientationPatient = [float(f"{v:.10g}") for v in (*direction[:, 0], *direction[:, 1])]
        ds.ImagePositionPatient = [float(f"{v:.10g}") for v in (lps @ [0, 0, k, 1])[:3]]
        ds.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        ds.SliceThickness = float(spacing[2])
        ds.Rows, ds.Columns = image.shape[1], image.shape[0]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = np.ascontiguousarray(image[:, :, k].T + 1024).astype("<i2").tobytes()
        pydicom.dcmwrite(folder / f"{prefix}{k:03d}.dcm", ds, enforce_file_format=True)


def write_compressed(path: Path, form: str) -> None:
    """Compress a slice in its place, losslessly: RLE, JPEG, JPEG2000, JPEG-LS, or deflated as a whole."""
    if form in ("RLE", "JPEG-LS", "deflated"):
        ds = pydicom.dcmread(path)
        if form == "deflated":
            ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        else:
            ds.compress(RLELossless if form == "RLE" else JPEGLSLossless, generate_instance_uid=False)
        pydicom.dcmwrite(path, ds, enforce_file_format=True)
        return
    write_by_gdcm(path, {"JPEG": JPEGLosslessSV1, "JPEG2000": JPEG2000Lossless}[form])


def write_by_gdcm(path: Path, syntax: str) -> None:
    """Store a slice in its place in a transfer syntax for which pydicom has no encoder."""
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
