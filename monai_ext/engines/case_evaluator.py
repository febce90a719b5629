# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from monai.engines import SupervisedEvaluator

from monai_ext.utils import ends_all

__all__ = ["CaseEvaluator"]


class CaseEvaluator(SupervisedEvaluator):
    """MONAI's ``SupervisedEvaluator`` for inference: a case that fails on its way does not stop the others.

    What the network, the inferer, postprocessing or writing raises is noted with the ``CaseLoader`` that the cases come
    from. A disk that is full, or went away, ends the run: each case after it would be lost as well.

    Args:
        device: where to compute.
        val_data_loader: a :class:`~monai_ext.data.CaseLoader`; give it among ``val_handlers`` too.
        kwargs: of ``SupervisedEvaluator``.

    Examples::

        >>> loader = CaseLoader(Dataset(find_images("scans"), transform), batch_size=1)
        >>> CaseEvaluator(device, loader, network, inferer=inferer, val_handlers=[loader]).run()
        >>> loader.raise_failed()
    """

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> dict[str, Any]:
        try:
            return super()._iteration(engine, batchdata)
        except Exception as e:  # networks, transforms and writers may raise anything
            if ends_all(e):
                raise
            loader: Any = engine.data_loader  # a CaseLoader
            loader.fail_current(e)
        return {}
