# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from monai_ext.data.files.memory_order import c_ordered, fortran_ordered


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "uint16", ">i2"])
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 4, 6), (4, 1, 1), (6, 5)])
def test_values_stay_and_order_changes(dtype, shape):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    for source in (array, np.asfortranarray(array), array[::-1], array[:, ::2]):
        source.setflags(write=False)
        for result, flag in ((c_ordered(source), "C"), (fortran_ordered(source), "F")):
            assert np.array_equal(result, source)
            assert result.flags[f"{flag}_CONTIGUOUS"]
            assert result.dtype == source.dtype
