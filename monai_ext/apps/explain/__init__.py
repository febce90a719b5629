# SPDX-License-Identifier: Apache-2.0
"""What a network looked at: figures for any input."""

from .figures import explain
from .maps import AttentionMaps, SourceWeights, attention_maps, source_weights

__all__ = ["AttentionMaps", "SourceWeights", "attention_maps", "explain", "source_weights"]
