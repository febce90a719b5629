# SPDX-License-Identifier: Apache-2.0
"""Numbers computed once with the authors' own code, and the rule that rebuilds their weights and inputs.

One case is ``<name>.json`` and ``<name>.npz`` beside this file. No weights are stored: each tensor of the official
``state_dict`` is drawn from a generator seeded by its key (``fill``), the input from a fixed seed, in float64, rounded
to float32. The reference then ran in eval mode and in float64 on exactly these values.

The npz holds every output on a grid of rows and columns (``<output>``, ``<output>__rows``, ``<output>__cols``) in
float32, and its ``<output>__shape``. The JSON holds statistics per channel over the whole output, parameter counts,
norms of gradients, and ``trace``: mean and std behind every module of the reference, for finding where two differ.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parent


def load_case(name: str) -> dict:
    """The JSON of one case."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def fill(key: str, shape: list[int], dtype: str, conv_gain: float) -> np.ndarray:
    """The content of one tensor of the official ``state_dict``; the kind of tensor is read off its key and shape."""
    if not dtype.startswith("float"):
        return np.zeros(shape, dtype=dtype)
    rng = np.random.default_rng(zlib.crc32(key.encode("utf-8")))
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "running_var":
        value = 1.0 + 0.1 * rng.uniform(0.0, 1.0, shape)
    elif len(shape) >= 2:  # convolutions, linear maps, embeddings
        gain = conv_gain if len(shape) == 4 else 1.0
        value = gain * rng.standard_normal(shape) / np.sqrt(float(np.prod(shape[1:])))
    elif len(shape) == 1 and leaf in ("weight", "scale"):  # norms, PReLU
        value = 1.0 + 0.1 * rng.standard_normal(shape)
    else:  # biases, running means, gates
        value = 0.1 * rng.standard_normal(shape)
    return np.asarray(value, dtype=np.float64).astype(np.float32)


def build_state_dict(case: dict) -> dict[str, torch.Tensor]:
    """The official ``state_dict``. Keys in ``aliases`` name a tensor that another key names too."""
    aliases = case.get("aliases", {})
    return {
        key: torch.from_numpy(fill(aliases.get(key, key), shape, dtype, case["conv_gain"]).reshape(shape))
        for key, shape, dtype in case["state_dict"]
    }


def build_input(case: dict) -> torch.Tensor:
    """The input, in float32."""
    rng = np.random.default_rng(case["input"]["seed"])
    return torch.from_numpy(rng.standard_normal(case["input"]["shape"]).astype(np.float32))


def grid_errors(name: str, outputs: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """``max|a - b| / max|b|`` on the stored grid of each of ``outputs``, which may be some of the stored ones."""
    errors = {}
    with np.load(FOLDER / f"{name}.npz") as stored:
        for key, output in outputs.items():
            assert list(output.shape) == stored[f"{key}__shape"].tolist(), key
            expected = stored[key].astype(np.float64)
            got = output.detach().double().numpy()[..., stored[f"{key}__rows"], :][..., stored[f"{key}__cols"]]
            errors[key] = float(np.abs(got - expected).max() / np.abs(expected).max())
    return errors


def stats_errors(case: dict, outputs: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Largest difference of the mean, std, minimum and maximum per channel, relative to the largest of them."""
    errors = {}
    for stored in case["outputs"]:
        if stored["name"] not in outputs:
            continue
        x = outputs[stored["name"]].detach().double()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        got = {"mean": x.mean(axes), "std": x.std(axes, correction=0), "min": x.amin(axes), "max": x.amax(axes)}
        expected = {k: torch.tensor(stored["per_channel"][k]).double() for k in got}  # rounded to float32
        worst = max(float((got[k] - expected[k]).abs().max()) for k in got)
        errors[stored["name"]] = worst / max(float(values.abs().max()) for values in expected.values())
    return errors
