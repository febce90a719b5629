# SPDX-License-Identifier: Apache-2.0
"""The commands of ``python -m monai_ext``, one a file. Heavy imports wait until a command runs."""

from __future__ import annotations

from collections.abc import Callable

from monai_ext.apps.commands.bundles import bundles
from monai_ext.apps.commands.calibrate import calibrate
from monai_ext.apps.commands.compare import compare
from monai_ext.apps.commands.convert import convert
from monai_ext.apps.commands.crossval import crossval
from monai_ext.apps.commands.datasets import datasets
from monai_ext.apps.commands.explain import explain
from monai_ext.apps.commands.export import export
from monai_ext.apps.commands.new import new
from monai_ext.apps.commands.phantom import phantom
from monai_ext.apps.commands.report import report
from monai_ext.apps.commands.reproduce import reproduce
from monai_ext.apps.commands.segment import segment
from monai_ext.apps.commands.view import view
from monai_ext.apps.deploy.command import deploy
from monai_ext.apps.label.command import label

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Callable[..., None]] = {
    command.__name__: command
    for command in (
        bundles,
        datasets,
        phantom,
        segment,
        report,
        view,
        reproduce,
        new,
        crossval,
        calibrate,
        compare,
        explain,
        convert,
        export,
        label,
        deploy,
    )
}
