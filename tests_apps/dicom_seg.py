# SPDX-License-Identifier: Apache-2.0
"""Look into a DICOM SEG as other programs do."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np


def segments_of(file: Path, affine: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Name -> mask ``(columns, rows, slices)``, put where the position of each frame says, on a grid (RAS, mm)."""
    seg = hd.seg.segread(file)
    masks = {str(s.SegmentLabel): np.zeros(shape, bool) for s in seg.SegmentSequence}
    names = {int(s.SegmentNumber): str(s.SegmentLabel) for s in seg.SegmentSequence}
    to_voxels = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for pixels, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        voxel = to_voxels @ [*position, 1.0]
        np.testing.assert_allclose(voxel, np.round(voxel), atol=1e-2)
        k = round(float(voxel[2]))
        name = names[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        masks[name][:, :, k] |= pixels.T.astype(bool)
    return masks
