# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_ext.networks.nets import UNetDCA
from tests.networks import dca_reference
from tests.networks.dca_base import DCANetworkTest
from tests.networks.parity import check_parity


class TestUNetDCA(DCANetworkTest):
    network = UNetDCA
    reference = dca_reference.unet
    published = (8_747_593, 8_637_033)
    cases = DCANetworkTest.attention_first

    @pytest.mark.slow
    def test_parity(self):
        check_parity(UNetDCA, "dca_unet_dca_224", plain_gradients=False)
