# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat

import pytest

from monai_ext.utils import replacing


def test_the_file_appears_whole_under_its_name(tmp_path):
    with replacing(tmp_path / "new" / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".a.nii.gz")  # writers choose the format by the name
        temporary.write_text("new")
        assert not (tmp_path / "new" / "a.nii.gz").exists()
    assert (tmp_path / "new" / "a.nii.gz").read_text() == "new"
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE((tmp_path / "new" / "a.nii.gz").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(error), replacing(tmp_path / "a.csv") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a.csv").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
