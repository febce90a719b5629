# SPDX-License-Identifier: Apache-2.0
"""Every network of the collection and the baselines, by one recipe each on CT and on pictures: which are better?

    python -m benchmarks.comparison --output DIR [--steps 560] [--cpu_seconds 600] [--seeds 0,1] [--size 96]
        [--networks NAME,...] [--image ct.nii.gz --label organs.nii.gz]

Runs ``compare`` on the CT phantom (recipe of ``dcaunet_synapse``, the phantom's own split), on the phantom of
colonoscopies (recipe of ``doubleunet_dca_kvasir``) and, where a labelled CT is given, on blocks of its slices as
``benchmarks.real_ct`` cuts them; each with equal steps, with equal seconds of computing time, or both, as is given.
Writes the tables of ``docs/results/comparison.md`` to ``DIR/comparison.md``. Stopped and started again, it goes
on. Times count only on a machine that does nothing else; a whole run takes hours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.machine import cpu_model
from benchmarks.real_ct import cut_pair
from monai_ext.apps.compare import Compared, compare, known_networks
from monai_ext.apps.compare.results import table_of
from monai_ext.data import write_phantom

CT_CASES, PICTURES = 24, 60


def data(folder: Path, image: str | None, label: str | None) -> dict[str, tuple[str, dict[str, str]]]:
    """Title -> bundle, and the knobs that give it the data; made where they are not there."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    if image and label:
        if not (folder / "blocks" / "list.json").is_file():
            cut_pair(image, label, folder / "blocks")
        # no validation: a block beside those of the test would choose the model
        found["blocks of one real CT"] = (
            "dcaunet_synapse",
            {"datalist": str(folder / "blocks" / "list.json"), "split": "paper"},
        )
    for title, name, cases, bundle in (
        ("phantom CT", "synapse", CT_CASES, "dcaunet_synapse"),
        ("phantom of colonoscopies", "kvasir", PICTURES, "doubleunet_dca_kvasir"),
    ):
        made = folder / f"{name}.made"
        if not made.is_file():
            write_phantom(name, folder / name, cases)
            made.touch()
        found[title] = (bundle, {"dataset_dir": str(folder / name), "split": "paper"})
    return found


def written(title: str, left: Compared) -> str:
    """A section of the page."""
    head, cells = table_of(left.rows, left.unit)
    rows = [[text.replace("\n", "<br>") for text in line] for line in cells]
    dice = [text for text in left.said if text.startswith("Dice: ") and " less " not in text]
    pairs = [text for text in dice if "told apart" in text or "better than" in text or "ranking" in text]
    table = tabulate(rows, head, tablefmt="pipe", disable_numparse=True)
    return f"## {title}\n\n{table}\n\n" + "\n".join(f"* {text}" for text in [*pairs, left.said[-1]]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--networks", default=",".join(known_networks()))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--cpu_seconds", type=float)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image")
    parser.add_argument("--label")
    args = parser.parse_args()
    budgets = {kind: amount for kind in ("steps", "cpu_seconds") if (amount := getattr(args, kind)) is not None}
    if not budgets:
        parser.error("give --steps, --cpu_seconds or both")
    sections = []
    for title, (bundle, knobs) in data(args.output, args.image, args.label).items():
        for kind, amount in budgets.items():
            left = compare(
                bundle,
                args.networks,
                seeds=args.seeds,
                output=args.output / f"{title.replace(' ', '_')}-{kind}-{amount:g}",
                image_size=[args.size, args.size],
                batch_size=args.batch,
                **{kind: amount},
                **knobs,
            )
            unit = "steps" if kind == "steps" else "seconds of computing time"
            sections.append(written(f"{title[0].upper()}{title[1:]}, {amount:g} {unit} each", left))
            page = f"{cpu_model()}, torch {torch.__version__}, {torch.get_num_threads()} thread(s).\n\n"
            (args.output / "comparison.md").write_text(page + "\n".join(sections), encoding="utf-8")
    print(args.output / "comparison.md")


if __name__ == "__main__":
    main()
