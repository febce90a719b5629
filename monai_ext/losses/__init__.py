# SPDX-License-Identifier: Apache-2.0

from .mutation_loss import MutationLoss

__all__ = ["MutationLoss"]
