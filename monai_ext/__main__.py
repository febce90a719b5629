# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m monai_ext COMMAND``."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import fire

from monai_ext.apps.commands import COMMANDS
from monai_ext.utils import plain_cause
from monai_ext.utils.deferred_imports import defer_imports


def main() -> None:
    """Run a command; an error is one message and a non-zero exit status, with ``--debug`` the traceback too."""
    debug = "--debug" in sys.argv
    # fire reads Python's words, people write JSON's
    arguments = [{"true": "True", "false": "False"}.get(a, a) for a in sys.argv[1:] if a != "--debug"]
    if arguments[1:] and not {"-h", "--help"}.isdisjoint(arguments):
        arguments = [arguments[0], "--", "--help"]  # without the dashes, fire takes missing arguments for an error
    command = arguments[0] if arguments[:1] in (["segment"], ["deploy"]) else None
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup's is another
            signal.signal(number, _stop)
    defer_imports()
    try:
        fire.Fire(COMMANDS, command=arguments, name="monai_ext")
    except KeyboardInterrupt:
        sys.exit("monai_ext: stopped.")
    except Exception as e:
        if debug:
            raise
        text = str(e).strip() or type(e).__name__
        # our own message may list what is wrong on further lines; a library's goes on with what only it understands
        ours = text.startswith("monai_ext: ")
        cause = plain_cause(e, command)
        message = text if ours else cause or f"monai_ext: {text.splitlines()[0]}"
        expected = cause is not None or isinstance(e, (ValueError, OSError))
        sys.exit(message if expected else f"{message} ({type(e).__name__}; --debug shows where)")


def _stop(number: int, frame: object) -> NoReturn:
    """End as by Ctrl-C: what is being written is cleared away."""
    sys.stderr.write("monai_ext: stopped.\n")
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
