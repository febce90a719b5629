# SPDX-License-Identifier: Apache-2.0
"""Cases in three planes and in 3D: a page with NiiVue that this machine serves to itself."""

from .layers import check_grids
from .loopback import ViewServer
from .viewed_cases import ViewedCase, find_viewed

__all__ = ["ViewServer", "ViewedCase", "check_grids", "find_viewed"]
