# SPDX-License-Identifier: Apache-2.0
"""The commands of ``python -m monai_ext``, one a file. Heavy imports wait until a command runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from fire.decorators import SetParseFn, SetParseFns

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
from monai_ext.utils import flag

__all__ = ["COMMANDS"]

KINDS: dict[str, Callable] = {"str": str, "str | None": str, "bool": flag}


def _as_typed(command: Callable[..., None]) -> Callable[..., None]:
    """A text stays what was typed, as a folder may be called 2024, and ``--force no`` is no: Fire guesses at values."""
    for name, parameter in inspect.signature(command).parameters.items():
        if parameter.annotation in KINDS:
            kind = KINDS[parameter.annotation]
            several = parameter.kind is parameter.VAR_POSITIONAL
            command = SetParseFn(kind)(command) if several else SetParseFns(**{name: kind})(command)
    return command


COMMANDS: dict[str, Callable[..., None]] = {
    command.__name__: _as_typed(command)
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
