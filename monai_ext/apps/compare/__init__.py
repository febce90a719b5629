# SPDX-License-Identifier: Apache-2.0
"""A fair comparison: several networks, one recipe, the same cases, folds, seeds and budget, one table."""

from monai_ext.networks.by_name import known_networks

from .candidates import Candidate
from .contest import Compared, compare

__all__ = ["Candidate", "Compared", "compare", "known_networks"]
