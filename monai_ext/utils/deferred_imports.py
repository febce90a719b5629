# SPDX-License-Identifier: Apache-2.0
"""Let ``import monai`` leave alone what few ever use: half of the time that it takes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["defer_imports"]

ROOTS = ("monai", "ignite")
#: modules that these load for a function or class or two, and those names
DEFERRED: dict[str, tuple[str, ...]] = {
    "matplotlib": (),
    "matplotlib.pyplot": (),  # to draw in notebooks
    "scipy.signal": ("hilbert", "iirnotch"),
    "sklearn": (),
    "sklearn.linear_model": ("LogisticRegression",),
    "sklearn.metrics": ("silhouette_score",),
    "torch.distributed.optim": ("ZeroRedundancyOptimizer",),
}


def defer_imports() -> None:
    """From now on, the first ``import monai`` (or ``ignite``) leaves some modules to whoever uses something of them.

    What they took of them by name is there, and loads its module when it is called; later imports of such a module
    are ordinary ones. Nothing happens if MONAI is loaded already, or to a module that is. A MONAI that cannot be loaded
    so is loaded as ever.

    Examples::

        >>> defer_imports()
        >>> import monai  # in half the time
    """
    if "monai" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder, Loader):
    """Stands before Python's own finders until MONAI is imported; ignite may come before it."""

    def __init__(self) -> None:
        self.loading: Loader | None = None  # MONAI's or ignite's own loader
        self.made: list[_Module] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.loading is None:
            if fullname not in ROOTS:  # whoever asks before they do means to use it
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(fullname)
            if spec is not None and spec.loader is not None:
                self.loading, spec.loader = spec.loader, self
            return spec
        if fullname not in DEFERRED or PathFinder.find_spec(fullname.partition(".")[0]) is None:
            return None
        inside = any(name.startswith(f"{fullname}.") for name in DEFERRED)
        return importlib.util.spec_from_loader(fullname, self, is_package=inside)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        if spec.name in ROOTS:
            return None
        module = _Module(spec.name)
        found = PathFinder.find_spec(spec.name.partition(".")[0])
        module.__file__ = found.origin if found else None  # MONAI takes a package without one for a mere folder
        self.made.append(module)
        return module

    def exec_module(self, module: ModuleType) -> None:
        own = self.loading
        if isinstance(module, _Module) or own is None:
            return
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = own
        sys.meta_path.insert(0, self)
        try:
            own.exec_module(module)
            return
        except Exception:  # another MONAI may use as it loads what this one only names
            for name in [name for name in sys.modules if name.split(".")[0] in ROOTS and name != module.__name__]:
                del sys.modules[name]
        finally:
            self.loading = None
            sys.meta_path.remove(self)
            for made in self.made:
                made.leave()
            self.made.clear()
            if "monai" not in sys.modules:  # to come
                sys.meta_path.insert(0, self)
        own.exec_module(module)


class _Module(ModuleType):
    """In the place of a module; anything but the names that are known to be taken loads it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = DEFERRED[self.__name__]
        return _Name(self, name) if name in known else getattr(self.real(), name)

    def leave(self) -> None:
        """Make room for the module itself."""
        name = self.__name__
        if sys.modules.get(name) is self:
            del sys.modules[name]
        package, _, child = name.rpartition(".")
        if package in sys.modules and vars(sys.modules[package]).get(child) is self:
            delattr(sys.modules[package], child)

    def real(self) -> ModuleType:
        self.leave()
        found = [finder for finder in sys.meta_path if isinstance(finder, _Finder)]
        for finder in found:
            sys.meta_path.remove(finder)
        try:
            return importlib.import_module(self.__name__)
        finally:
            sys.meta_path[:0] = found


class _Name:
    """A function or class of a module that is loaded by its use."""

    def __init__(self, module: _Module, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._module.real(), self._name)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(self._module.real(), self._name), name)

    def __instancecheck__(self, value: object) -> bool:
        """Nothing is an instance of a class that nobody has loaded."""
        loaded = self._module.__name__ in sys.modules
        return loaded and isinstance(value, getattr(self._module.real(), self._name))
