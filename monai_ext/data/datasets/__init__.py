# SPDX-License-Identifier: Apache-2.0
"""Public datasets, one file a publisher's layout, with every fact about it."""

from __future__ import annotations

from .acdc import ACDC
from .bkai import BKAI, BKAI_TYPES
from .busi import BUSI
from .cvc import CLINICDB, COLONDB
from .dataset_info import Cohort, DatasetInfo, Structure
from .dsb2018 import DSB2018
from .fives import FIVES
from .glas import GLAS
from .isic import ISIC2016, ISIC2017
from .kvasir import KVASIR
from .monuseg import MONUSEG
from .synapse import SYNAPSE

__all__ = ["DATASETS", "Cohort", "DatasetInfo", "Structure"]

DATASETS: dict[str, DatasetInfo] = {
    "synapse": SYNAPSE,
    "acdc": ACDC,
    "isic2016": ISIC2016,
    "isic2017": ISIC2017,
    "kvasir": KVASIR,
    "clinicdb": CLINICDB,
    "colondb": COLONDB,
    "bkai": BKAI,
    "bkai_types": BKAI_TYPES,
    "busi": BUSI,
    "glas": GLAS,
    "monuseg": MONUSEG,
    "dsb2018": DSB2018,
    "fives": FIVES,
}
