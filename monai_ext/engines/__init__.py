# SPDX-License-Identifier: Apache-2.0
"""Additions to MONAI's training loop, and to its loop over cases."""

from .case_evaluator import CaseEvaluator
from .multi_scale import PrepareBatchMultiScale

__all__ = ["CaseEvaluator", "PrepareBatchMultiScale"]
