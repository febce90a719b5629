# SPDX-License-Identifier: Apache-2.0
"""Over two thousand bad files end in a clear error or a right result; ``hostile.py`` tries as many as one likes."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from monai_ext.data import load_datalist
from monai_ext.utils import read_json
from tests.reliability import hostile

COUNT = 2000
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_every_input_ends_in_a_clear_error_or_a_right_result():
    outcomes, bad = hostile.run(COUNT)
    assert not bad, "\n".join(bad[:20])
    assert sum(sum(outcome.counts.values()) for outcome in outcomes.values()) >= COUNT
    assert all(outcome.counts["clear error"] for outcome in outcomes.values())
    assert max(outcome.seconds for outcome in outcomes.values()) < hostile.SECONDS
    assert max(outcome.memory for outcome in outcomes.values()) < hostile.MEMORY


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.sampled_from(["training", "validation", "test", "label_mapping"]), value=values)
def test_any_json_in_a_list_of_cases(tmp_path, part, value):
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({"training": [], part: value}))
    with pytest.raises((ValueError, FileNotFoundError), match=r"^monai_ext: .*cases\.json|^monai_ext: .*no such file"):
        load_datalist("synapse", datalist=file)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_as_json(tmp_path, content):
    file = tmp_path / "any.json"
    file.write_bytes(content)
    assume(not content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")))  # tests/data/test_lists.py
    try:
        expected = json.loads(content.decode())
    except ValueError:
        with pytest.raises(ValueError, match=r"list .*any\.json: no valid JSON"):
            read_json(file, "list")
    else:
        assert repr(read_json(file, "list")) == repr(expected)
