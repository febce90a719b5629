# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_ext.bundle import find_bundle, flag, known_bundles


def test_bundles_are_found_by_name_and_by_folder(tmp_path, monkeypatch):
    assert find_bundle("qtseg_busi") == known_bundles()["qtseg_busi"]
    folder = tmp_path / "bundles" / "mine" / "configs"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text("{}")
    assert find_bundle(folder.parent) == folder.parent
    monkeypatch.chdir(tmp_path)
    assert "mine" in known_bundles()
    with pytest.raises(FileNotFoundError, match="Did you mean 'qtseg_busi'"):
        find_bundle("qtseg_bus")


def test_switches_as_command_lines_give_them():
    assert [flag(value) for value in (True, "true", "True", 1, "1", "yes")] == [True] * 6
    assert [flag(value) for value in (False, "false", "False", 0, "0", "no", None)] == [False] * 7
    with pytest.raises(ValueError, match="'maybe': expected true or false"):
        flag("maybe")
