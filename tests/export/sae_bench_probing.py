"""SAEBench's sparse probing of an SAE on labelled text of one's own: `PYTHON sae_bench_probing.py SAE MODEL LABELLED`.

It is run by an interpreter that has sae-bench, sae-lens and transformer-lens, and distsae for `--view`. SAE is a folder
in the files of SAELens, MODEL the folder of its GPT-2 or Llama. LABELLED is a JSONL file of `text` and `label`, a whole
number.

SAEBench fetches its data sets by name. A folder of that name in the current one is read instead, so the labelled text
takes the place of `fancyzhx/ag_news`, in a temporary folder; a fifth of each label is for testing. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

os.environ["JAXTYPING_DISABLE"] = "1"  # SAEBench binds one size of a shape to two functions, and refuses itself

import sae_lens
from hooked_model import hooked
from sae_bench.evals.sparse_probing.eval_config import SparseProbingEvalConfig
from sae_bench.evals.sparse_probing.main import run_eval_single_sae
from sae_bench.sae_bench_utils import dataset_info
from sae_bench.sae_bench_utils.general_utils import load_and_format_sae

NAME = "fancyzhx/ag_news"


def write_splits(labelled: Path, folder: Path) -> tuple[int, int]:
    """Writes the two splits of a labelled text, and returns how many passages a probe can learn from and be tested on.

    A probe sees as many passages of its label as of all others together.
    """
    by_label: dict[int, list[str]] = collections.defaultdict(list)
    for line in labelled.read_text().splitlines():
        row = json.loads(line)
        by_label[int(row["label"])].append(row["text"])
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for label, texts in sorted(by_label.items()):
        random.Random(label).shuffle(texts)
        for place, text in enumerate(texts):
            splits["test" if place < len(texts) // 5 else "train"].append({"text": text, "label": label})
    folder.mkdir(parents=True)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset_info.chosen_classes_per_dataset[NAME] = [str(label) for label in sorted(by_label)]
    rarest = min(len(texts) for texts in by_label.values())
    return 2 * (rarest - rarest // 5), 2 * (rarest // 5)


def opened(exported: Path, runs: list[Path]) -> dict[str, Any]:
    """Returns the exported SAE, and those of runs as views for SAEBench, by name."""
    found = {str(exported): sae_lens.SAE.load_from_disk(str(exported))}
    for run in runs:
        from distsae import SAE
        from distsae.export import BenchSAE

        found[str(run)] = BenchSAE(SAE.load(run))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("sae", "model", "labelled"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--view", type=Path, nargs="*", default=[], help="runs of distsae, handed over as BenchSAEs")
    parser.add_argument("--train", type=int, default=4000, help="most passages that a probe learns from")
    parser.add_argument("--test", type=int, default=1000, help="most passages that it is tested on")
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    model, labelled = arguments.model.resolve(), arguments.labelled.resolve()
    saes = opened(arguments.sae, arguments.view)
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
        train, test = write_splits(labelled, Path(NAME))
        config = SparseProbingEvalConfig(
            model_name="local",
            dataset_names=[NAME],
            probe_train_set_size=min(arguments.train, train),
            probe_test_set_size=min(arguments.test, test),
            random_seed=arguments.seed,
            llm_batch_size=32,
            llm_dtype="float32",
        )
        hooked_model = hooked(str(model))
        # The first pass keeps the model's activations and draws other random numbers for that; it does not count.
        for name in (str(arguments.sae), *saes):
            _, sae, _ = load_and_format_sae(name, saes[name], "cpu")
            found, _ = run_eval_single_sae(config, sae, hooked_model, "cpu", "artifacts")
            result = found[f"{NAME}_results"]
            print(name, config.probe_train_set_size, config.probe_test_set_size, json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
