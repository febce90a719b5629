# SPDX-License-Identifier: Apache-2.0
"""Where the results of a series lie: a folder of their own, which appears as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from monai_ext.utils import locked, scratch_folder

__all__ = ["OtherWeights", "ResultsExist", "ResultsFolder"]


class ResultsExist(FileExistsError):
    """There are results of this series already, in the folder ``path``."""

    what = "there are results of this series already."

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"monai_ext: {path}: {self.what} Give another --output, or --overwrite true, which replaces the whole "
            "folder."
        )
        self.path = path


class OtherWeights(ResultsExist):
    """They are of other weights than those that are asked for."""

    what = "these results are of other weights, so they are not sent."


class ResultsFolder:
    """``OUTPUT/STUDY/SERIES``, named by UIDs and held by one process at a time.

    Args:
        output: made if need be, and removed again where nothing was written.
        study: Study Instance UID, as :func:`~monai_ext.apps.deploy.sources.quoted_sources` has checked it.
        series: Series Instance UID, too.
        overwrite: replace a folder that is there, as a whole.

    Raises:
        BlockingIOError: on entering, if another process writes results of this series.
        ResultsExist: on entering, if there are results of this series already.
        OSError: on entering, if ``output`` cannot be written to.

    Examples::

        >>> with ResultsFolder(Path("results"), "1.2.3", "1.2.3.4") as results:
        ...     with results.filled() as folder:
        ...         (folder / "notes.txt").write_text("all or none")
        >>> Path("results/1.2.3/1.2.3.4/notes.txt").read_text()
        'all or none'
    """

    def __init__(self, output: Path, study: str, series: str, overwrite: bool = False) -> None:
        self.output, self.path, self.overwrite = output, output / study / series, overwrite
        self._old = self.path.with_name(f".{series}.old")  # no scratch folder: those of the dead are cleared
        self._held = ExitStack()

    def __enter__(self) -> ResultsFolder:
        study = self.path.parent
        with ExitStack() as held:
            held.callback(self._remove_if_empty)
            try:
                lock = f".monai_ext-{self.path.name}.lock"
                held.enter_context(locked(study, lock, "Wait until it has ended, or give another --output."))
            except BlockingIOError:
                raise
            except OSError as e:
                raise OSError(f"monai_ext: {study}: cannot be written to ({e.strerror or e}).") from e
            if os.path.lexists(self._old) and not os.path.lexists(self.path):  # of a process that ended in between
                self._old.rename(self.path)
            _remove(self._old)
            self._refuse_existing()
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._held.close()

    @contextmanager
    def filled(self) -> Iterator[Path]:
        """Give an empty folder on the same disk; at the end it becomes ``path``, after an error it is removed."""
        with scratch_folder(self.path.parent, "deploy-") as scratch:
            new = scratch / "new"
            new.mkdir()
            yield new
            for file in new.iterdir():  # on the disk before the rename
                with file.open("rb") as content:
                    os.fsync(content.fileno())
            self._refuse_existing()  # whoever made it meanwhile asked for no lock
            if os.path.lexists(self.path):
                self.path.rename(self._old)
            try:
                new.rename(self.path)
            except BaseException:
                if os.path.lexists(self._old):
                    self._old.rename(self.path)
                raise
            _remove(self._old)

    def _refuse_existing(self) -> None:
        if os.path.lexists(self.path) and not self.overwrite:
            raise ResultsExist(self.path)

    def _remove_if_empty(self) -> None:
        with suppress(OSError):
            self.path.parent.rmdir()
            self.output.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
