# SPDX-License-Identifier: Apache-2.0
"""``import monai`` without what few use, which is there all the same. In a process of its own: this one has MONAI."""

import json
import subprocess
import sys

import pytest

from monai_ext.utils.deferred_imports import DEFERRED

SCRIPT = """
import json, sys
from monai_ext.utils.deferred_imports import DEFERRED, defer_imports

defer_imports()
import monai_ext.apps.segmentation  # as the command does; it asks for ignite first
import monai

found = {"loaded": [name for name in DEFERRED if name in sys.modules]}
found["finders"] = [type(finder).__module__ for finder in sys.meta_path]
found["loader"] = type(monai.__spec__.loader).__name__
import ignite.handlers.checkpoint
import monai.data.ultrasound_confidence_map
import monai.metrics.embedding_collapse
import monai.transforms.signal.array
import monai.utils.jupyter_utils
import monai.visualize.utils

zero = ignite.handlers.checkpoint.ZeroRedundancyOptimizer
found["nobody's"] = isinstance(monai, zero)
found["used"] = list(monai.transforms.signal.array.iirnotch(0.25, 30.0)[0].round(3))
found["hilbert"] = float(abs(monai.data.ultrasound_confidence_map.hilbert([1.0, 0.0, -1.0, 0.0])[0]))
found["drawn"] = [m.plt.subplot2grid.__name__ for m in (monai.utils.jupyter_utils, monai.visualize.utils)]
if monai.metrics.embedding_collapse.has_sklearn:
    found["fitted"] = monai.metrics.embedding_collapse.sklearn_logistic(max_iter=3).max_iter
import matplotlib.pyplot, scipy.signal, torch.distributed.optim

found["real"] = [m.__spec__.origin is not None for m in (matplotlib.pyplot, scipy.signal, torch.distributed.optim)]
found["real"].append(scipy.signal is sys.modules["scipy.signal"])
found["class"] = [isinstance(monai, zero), zero.step is torch.distributed.optim.ZeroRedundancyOptimizer.step]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_command_is_there_and_what_few_use_is_not_loaded(found):
    assert found["loaded"] == []
    assert found["loader"] == "SourceFileLoader"
    assert "monai_ext.utils.deferred_imports" not in found["finders"], "the finder is gone once MONAI is there"


def test_what_is_used_is_the_real_thing(found):
    from scipy.signal import hilbert, iirnotch

    assert found["used"] == list(iirnotch(0.25, 30.0)[0].round(3))
    assert found["hilbert"] == pytest.approx(abs(hilbert([1.0, 0.0, -1.0, 0.0])[0]))
    assert found["drawn"] == ["subplot2grid"] * 2
    assert found.get("fitted", 3) == 3


def test_nothing_is_an_instance_of_what_nobody_loaded(found):
    assert found["nobody's"] is False
    assert found["class"] == [False, True]


def test_later_imports_are_ordinary(found):
    assert found["real"] == [True] * 4


def test_another_monai_that_needs_them_is_loaded_as_ever(tmp_path):
    """One that makes a class of its own of what is left for later, as it loads."""
    package = tmp_path / "monai"
    package.mkdir()
    (package / "__init__.py").write_text("count = globals().get('count', 0) + 1\nfrom . import part\n")
    (package / "part.py").write_text(
        "from scipy.signal import hilbert\nimport scipy.signal\n"
        "assert hilbert is scipy.signal._signaltools.hilbert\nready = True\n"
    )
    script = (
        "from monai_ext.utils.deferred_imports import defer_imports\ndefer_imports()\n"
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import monai, scipy.signal\nprint(monai.count, monai.part.ready, scipy.signal.__spec__.origin is not None)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["2", "True", "True"], done.stderr


def test_what_is_imported_before_monai_is_the_real_thing():
    script = (
        "from monai_ext.utils.deferred_imports import defer_imports\ndefer_imports()\n"
        "import sys; from scipy.signal import hilbert; before = sys.modules['scipy.signal']\n"
        "import monai.transforms.signal.array as ours\n"
        "print('monai' in sys.modules, type(hilbert).__name__, before is sys.modules['scipy.signal'],\n"
        "      ours.iirnotch is before.iirnotch)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "function", "True", "True"], done.stderr


def test_a_loaded_monai_is_left_alone():
    import monai  # noqa: F401

    from monai_ext.utils.deferred_imports import defer_imports

    before = list(sys.meta_path)
    defer_imports()
    assert sys.meta_path == before
    assert set(DEFERRED) >= {"scipy.signal", "torch.distributed.optim"}
