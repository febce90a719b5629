# SPDX-License-Identifier: Apache-2.0
"""The walls of the house, read from the imports: which package may know which, and that none goes in a circle."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import monai_ext

ROOT = Path(monai_ext.__file__).parent
#: package -> those that it may import from; a package that is not listed as a value of another is the top
MAY_IMPORT: dict[str, set[str]] = {
    "utils": set(),
    "phantoms": {"utils"},
    "transforms": {"utils"},
    "networks": {"utils"},
    "losses": {"utils"},
    "metrics": {"utils"},
    "engines": {"utils"},
    "data": {"phantoms", "transforms", "utils"},
    "inferers": {"networks", "transforms", "utils"},
    "bundle": {"networks", "utils"},
    "handlers": {"bundle", "data", "networks", "metrics", "utils"},
    "apps": {"bundle", "data", "handlers", "inferers", "metrics", "networks", "phantoms", "transforms", "utils"},
    "__main__": {"apps", "utils"},
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("monai_ext", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> list[tuple[str, str]]:
    """(module, name imported from it) of all imports of a module, those inside functions too."""
    path = MODULES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked_only = {  # for the type checker, never run
        inner for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }  # fmt: skip
    for node in ast.walk(tree):
        if node in checked_only:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inside = f"{base}.{alias.name}"
                found.append((inside, "") if inside in MODULES else (base, alias.name))
    return [(module, thing) for module, thing in found if module in MODULES]


IMPORTS = {name: imports(name) for name in MODULES}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_packages_know_only_those_below():
    seen = defaultdict(set)
    for name, found in IMPORTS.items():
        for module, _ in found:
            if room(name) and room(module) and room(name) != room(module):
                seen[room(name), room(module)].add(name)
    wrong = {pair: sorted(where) for pair, where in seen.items() if pair[1] not in MAY_IMPORT[pair[0]]}
    assert wrong == {}


def test_the_rule_has_no_circle_and_no_package_without_a_rule():
    assert list(TopologicalSorter(MAY_IMPORT).static_order())
    assert {room(name) for name in MODULES if room(name)} == MAY_IMPORT.keys()


def test_no_module_imports_itself_by_a_detour():
    """A package's ``__init__`` stands for the modules that it gathers, so only what is asked of it counts."""
    graph = {name: {module for module, _ in found if module != name} for name, found in IMPORTS.items()}
    # who asks the root asks for the version
    graph.pop("monai_ext")
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as e:
        pytest.fail(" -> ".join(reversed(e.args[1])))


def test_no_private_name_crosses_a_file():
    crossing = [
        f"{name}: {module}.{thing}" for name, found in IMPORTS.items() for module, thing in found
        if thing.startswith("_") and not thing.startswith("__")
    ]  # fmt: skip
    assert crossing == []


def test_no_two_modules_of_one_name():
    """But for those that do the same job for two things: what starts MONAI Label, and what starts MONAI Deploy."""
    places = defaultdict(list)
    for name, path in MODULES.items():
        if path.stem not in ("__init__", "__main__", "command") and path.parent.name != "commands":
            places[path.stem].append(name)
    assert {stem: names for stem, names in places.items() if len(names) > 1} == {}
