#!/usr/bin/env bash
# One environment for MONAI Label and MONAI Deploy.   Usage: tools/apps/make_env.sh FOLDER
# On a machine with a GPU it gets the CUDA build of torch, as "pip install torch" does there.
# It is made anew only when what it is made from has changed, so it can be kept between runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
env=${1:?folder of the environment}
pip="$env/bin/python -m pip --quiet --disable-pip-version-check"
made_from=$(cat setup.cfg tools/apps/constraints.txt tools/apps/make_env.sh <(${PYTHON:-python3} --version) | sha256sum)
if [ "$(cat "$env/made_from" 2>/dev/null)" != "$made_from" ]; then
    rm -rf "$env"
    ${PYTHON:-python3} -m venv "$env"
    # torch first: what follows must not choose another build of it
    $pip install -c tools/apps/constraints.txt torch setuptools
    $pip install -c tools/apps/constraints.txt -e '.[label,deploy]' pytest pytest-xdist
    # MONAI Label's own requirements exclude NumPy 2 and pydicom 3 (numpymaxflow, pydicom-seg); the extra "label" lists
    # what it really needs. torchvision's plain install may replace torch.
    $pip install -c tools/apps/constraints.txt --no-deps monailabel torchvision
    echo "$made_from" > "$env/made_from"
fi
# a kept environment may have been made from another folder
$pip install --no-deps --no-build-isolation -e .
