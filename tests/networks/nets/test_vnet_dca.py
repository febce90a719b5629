# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from monai_ext.networks.nets import VNetDCA
from tests.networks import dca_reference
from tests.networks.dca_base import DCANetworkTest


class TestVNetDCA(DCANetworkTest):
    network = VNetDCA
    reference = dca_reference.vnet
    published = (36_079_266, 35_968_706)
    inert = (*DCANetworkTest.inert, r"input\.project\..*")  # only the attention reads it
