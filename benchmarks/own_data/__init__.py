# SPDX-License-Identifier: Apache-2.0
"""What ``new`` makes of one's own scans: its recipes, on slices held out and on what another patient would be.

    python -m benchmarks.own_data --image ct.nii.gz --label organs.nii.gz --output DIR \\
        [--data ct,organs,brain] [--recipes paper,squares,strong] [--steps 224] [--seeds 0,1,2] [--size 64] [--jobs 2]

``new`` makes a bundle of each set of data, with its defaults (``strong``) or ``--recipe paper``, which is trained by
its documented command; ``squares`` is the strong recipe without its plan, every slice squeezed to a square. Equal steps
for all: seconds say nothing on a machine that others use. ``--size`` makes all quicker than what ``new`` plans: fewer
pixels of the same slices.

* ``ct``: a labelled CT, with the classes of the Synapse bundle in their order, cut along the patient's axis into blocks
  of 13 slices: 9 to train on, 1 unused, 2 to test on, 1 unused; the latter as they are, with contrast medium, and as
  two other scanners would show them (``benchmarks/other_scanner.py``). Dice is pooled over the blocks.
* ``organs``: CT phantoms, and phantoms of another seed with contrast medium, in another body, pixel and slice distance.
* ``brain``: MR phantoms of four channels in mixed planes and spacings, and coarser ones of another seed.

Beside nnU-Net, on three sets of data, at equal CPU seconds of training::

    python -m benchmarks.own_data.beside --image ct.nii.gz --label organs.nii.gz --output DIR \\
        [--cpu_seconds 30,80,160] [--jobs 9] [--minutes 7] [--nnunet_python PATH] [--report FILE]

nnU-Net runs in an environment of its own, as it is published::

    python3 -m venv nnunet && nnunet/bin/pip install torch==2.13.0 torchvision==0.28.0 nnunetv2==2.8.1

See ``beside.py`` for what is equal on both sides; ``cohorts.py`` has the data, ``nnunet_worker.py`` what runs there.
"""
