# SPDX-License-Identifier: Apache-2.0
"""Every network of the collection and the baselines, by one recipe each on CT and on pictures: which are better?

    python -m benchmarks.comparison --output DIR [--steps 560] [--cpu_seconds 600] [--seeds 0,1] [--size 96]
        [--networks NAME,...] [--data ct synapse kvasir] [--jobs N] [--image ct.nii.gz --label organs.nii.gz]

Runs ``compare`` on the CT phantom (recipe of ``dcaunet_synapse``, the phantom's own split), on the phantom of
colonoscopies (recipe of ``doubleunet_dca_kvasir``) and, where a labelled CT is given, on blocks of its slices as
``benchmarks.real_ct`` cuts them, those to test on in one file: with equal steps, with equal seconds of computing time,
or both, as is given. Writes the tables of ``docs/results/comparison.md`` to ``DIR/comparison.md``, after each seed.
Stopped and started again, it goes on. Times count only on a machine that does nothing else; two cores need hours.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel
import numpy as np
import torch
from tabulate import tabulate

from benchmarks.machine import cpu_model
from benchmarks.real_ct import cut_pair
from monai_ext.apps.compare import Compared, compare, known_networks
from monai_ext.apps.compare.results import table_of
from monai_ext.data import write_phantom

CT_CASES, PICTURES = 24, 60
BLOCKS = "blocks of one real CT"


def data(folder: Path, image: str | None, label: str | None, only: list[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Title -> bundle, and the knobs that give it the data; made where they are not there."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    if image and label and "ct" in only:
        if not (folder / "blocks" / "list.json").is_file():
            cut_pair(image, label, folder / "blocks")
        if not (folder / "blocks" / "joined.json").is_file():
            join_tests(folder / "blocks")
        # no validation: a block beside those of the test would choose the model
        found[BLOCKS] = (
            "dcaunet_synapse",
            {"datalist": str(folder / "blocks" / "joined.json"), "split": "paper"},
        )
    for title, name, cases, bundle in (
        ("phantom CT", "synapse", CT_CASES, "dcaunet_synapse"),
        ("phantom of colonoscopies", "kvasir", PICTURES, "doubleunet_dca_kvasir"),
    ):
        if name not in only:
            continue
        made = folder / f"{name}.made"
        if not made.is_file():
            write_phantom(name, folder / name, cases)
            made.touch()
        found[title] = (bundle, {"dataset_dir": str(folder / name), "split": "paper"})
    return found


def join_tests(folder: Path) -> None:
    """The blocks to test on as one case: of one alone most organs are absent, and they are of one patient.

    Slices that were no neighbours become such: Dice is right, distances are not.
    """
    cases = json.loads((folder / "list.json").read_text())
    joined = {part: str(folder / f"test_{part}.nii.gz") for part in ("image", "label")}
    for part, file in joined.items():
        blocks = [nibabel.load(case[part]) for case in cases["test"]]
        voxels = np.concatenate([np.asarray(block.dataobj) for block in blocks], axis=2)
        nibabel.save(nibabel.Nifti1Image(voxels, blocks[0].affine, blocks[0].header), file)
    (folder / "joined.json").write_text(json.dumps({**cases, "test": [joined]}))


def written(title: str, left: Compared, distances: bool) -> str:
    """A section of the page."""
    rows = left.rows if distances else [{k: v for k, v in row.items() if k not in ("hd95", "nsd")} for row in left.rows]
    head, cells = table_of(rows, left.unit)
    rows = [[text.replace("\n", "<br>") for text in line] for line in cells]
    dice = [text for text in left.said if text.startswith("Dice: ") and " less " not in text]
    told = ("told apart", "better than", "ranking", "no test")
    pairs = [text for text in dice if any(words in text for words in told)]
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
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once; times then count for nothing")
    parser.add_argument("--data", nargs="+", choices=("ct", "synapse", "kvasir"), default=["ct", "synapse", "kvasir"])
    parser.add_argument("--image")
    parser.add_argument("--label")
    args = parser.parse_args()
    budgets = {kind: amount for kind in ("steps", "cpu_seconds") if (amount := getattr(args, kind)) is not None}
    if not budgets:
        parser.error("give --steps, --cpu_seconds or both")
    seeds, cohorts = args.seeds.split(","), data(args.output, args.image, args.label, args.data)
    page = f"{cpu_model()}, torch {torch.__version__}, {torch.get_num_threads()} thread(s).\n\n"
    sections: dict[tuple[str, str], str] = {}
    # seed by seed: what is stopped has a table
    for count in range(1, len(seeds) + 1):
        for title, (bundle, knobs) in cohorts.items():
            for kind, amount in budgets.items():
                left = compare(
                    bundle,
                    args.networks,
                    seeds=seeds[:count],
                    output=args.output / f"{title.replace(' ', '_')}-{kind}-{amount:g}",
                    image_size=[args.size, args.size],
                    batch_size=args.batch,
                    jobs=args.jobs,
                    **{kind: amount},
                    **knobs,
                )
                unit = "steps" if kind == "steps" else "seconds of computing time"
                heading = f"{title[0].upper()}{title[1:]}, {amount:g} {unit} each"
                sections[title, kind] = written(heading, left, distances=title != BLOCKS)
                (args.output / "comparison.md").write_text(page + "\n".join(sections.values()), encoding="utf-8")
    print(args.output / "comparison.md")


if __name__ == "__main__":
    main()
