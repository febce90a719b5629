# SPDX-License-Identifier: Apache-2.0
"""From a folder of images and labels to a bundle for them."""

from .pairs import pair_files, read_decathlon
from .survey import Survey, survey
from .writing import new_bundle

__all__ = ["Survey", "new_bundle", "pair_files", "read_decathlon", "survey"]
