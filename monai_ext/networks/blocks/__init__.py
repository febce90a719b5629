# SPDX-License-Identifier: Apache-2.0

from .rms_norm import ChannelRMSNorm

__all__ = ["ChannelRMSNorm"]
