# SPDX-License-Identifier: Apache-2.0
"""A bundle as an object: found, read, loaded, run. Everybody who needs one takes it.

A bundle is where its config is: what it reads and writes lies beside the config that is being run, whatever its folder
is called. Importing this package costs nothing: PyTorch and MONAI wait until a network or a workflow is asked for.
"""

# configs name these here
from monai_ext.utils.errors import end_with_plain_error, plain_cause
from monai_ext.utils.knobs import KNOBS, knob_value
from monai_ext.utils.switches import flag

from .bundle import Bundle, find_bundle, known_bundles
from .ensembles import CROSSVAL, FoldEnsemble, fold_ensemble, largest_component, own_weights
from .initialize import bundle_root, check_knobs
from .launching import join_processes, process_device
from .literals import literal, mixed_precision, use_device
from .places import collection, folder_for
from .running import Running, running
from .trained_with import note_trained_with, stamp, trained_with

__all__ = [
    "CROSSVAL",
    "KNOBS",
    "Bundle",
    "FoldEnsemble",
    "Running",
    "bundle_root",
    "check_knobs",
    "collection",
    "end_with_plain_error",
    "find_bundle",
    "flag",
    "fold_ensemble",
    "folder_for",
    "join_processes",
    "knob_value",
    "known_bundles",
    "largest_component",
    "literal",
    "mixed_precision",
    "note_trained_with",
    "own_weights",
    "plain_cause",
    "process_device",
    "running",
    "stamp",
    "trained_with",
    "use_device",
]
