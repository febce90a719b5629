# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def subnormal_numbers() -> Iterator[None]:
    """A training switches them off for its whole process, and hypothesis draws them."""
    yield
    torch.set_flush_denormal(False)
