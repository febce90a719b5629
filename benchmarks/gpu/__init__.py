# SPDX-License-Identifier: Apache-2.0
"""What a GPU makes of the networks, the bundles and a CT from file to file: one command, at most eight minutes.

    python -m benchmarks.gpu [--output gpu.json] [--minutes 8] [--part check training ...]

Needs one CUDA GPU of 80 GB, for ``torch.compile`` a C compiler, and no network: scans are phantoms, weights
come from seeds. Writes ``gpu.json`` and its tables, ``gpu.md``. Each part runs in a process of its own, with a time
limit: one that fails, crashes or hangs is reported, and the next begins. What no longer fits is reported as not run.
The exit status is 1 if anything failed.

Parts, each in a file of its name (``compiled`` in ``networks.py``):

* ``check``: outputs and gradients of every network against the CPU's; at the same time, short trainings for the
  weights of later parts, and each bundle's own training, evaluation and inference, with its own options
* ``rates``: matrix products and copies, what the card can do
* ``training``: steps and memory in float32, float16 (as the bundles train) and bfloat16
* ``networks``: the forward pass in every precision, with these weights: time, memory, labels, Dice
* ``volume``: a CT of 512x512x148 from file to file, in steps and by the command line; a batch too large for the memory
* ``metrics``, ``copies``: Dice and HD95 of CUDA tensors; copies on streams of their own
* ``compiled``: CUDA graphs and ``torch.compile``, last, since compiling takes longest

What they share: ``job.py`` (what a part is given), ``data.py`` (slices and weights), ``timing.py``; ``processes.py``
runs them, ``record.py`` writes the files. Timed variants take turns after a warm-up of each; ratios are medians of
ratios in turn. ``--device cpu --tiny`` only shows that the script runs.
"""

import os
import time

STARTED = time.monotonic()  # before the other imports, which take their share of the minutes
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for a GPU must not keep children from using it
