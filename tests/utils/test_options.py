# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from monai_ext.utils.knobs import knob_value
from monai_ext.utils.options import finite_number, number_option, whole_number, whole_option


@pytest.mark.parametrize(
    ("given", "number", "whole"),
    [
        (3, 3, 3),
        ("3", 3, 3),
        (" 3 ", 3, 3),
        (3.0, 3.0, 3),
        ("3.0", 3.0, 3),
        ("-2", -2, -2),
        ("1e-3", 0.001, None),
        (np.int64(7), 7, 7),
        (np.float32(0.5), 0.5, None),
        (2**60 + 1, 2**60 + 1, 2**60 + 1),
        (str(2**60 + 1), 2**60 + 1, 2**60 + 1),  # not by way of a float, which has no such number
        *[
            (odd, None, None)
            for odd in (True, "true", None, "", "x", [1], {}, "nan", math.inf, "-inf", 10**400, "1e400")
        ],
    ],
)
def test_a_number_is_one_for_every_command_and_knob(given, number, whole):
    assert (finite_number(given), whole_number(given)) == (number, whole)
    if whole is not None and whole >= 0:
        assert whole_option(given, "fold", 0) == knob_value("num_workers", given) == whole
    else:
        with pytest.raises(ValueError, match="fold must be 0 or more, got"):
            whole_option(given, "fold", 0)
        with pytest.raises(ValueError, match="--num_workers .*: expected a whole number of at least 0"):
            knob_value("num_workers", given)
    if number is None:
        with pytest.raises(ValueError, match="share must be a number, got"):
            number_option(given, "share")
    else:
        assert number_option(given, "share") == float(number)
