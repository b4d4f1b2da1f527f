"""SAEBench's sparse probing of an SAE on labelled text of one's own: `PYTHON sae_bench_probing.py SAE MODEL LABELLED`.

It is run by an interpreter that has sae-bench, sae-lens and transformer-lens. SAE is a folder in the files of SAELens,
or, with `--view`, a run of distsae, which is handed over as a `BenchSAE`; then that interpreter needs distsae as well.
MODEL is the folder of its GPT-2 or Llama. LABELLED is a JSONL file of `text` and `label`, a whole number.

SAEBench fetches its data sets by name. A folder of that name in the current one is read instead, so the labelled text
takes the place of `fancyzhx/ag_news`, in a temporary folder; a fifth of each label is for testing. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from hooked_model import hooked
from sae_bench.evals.sparse_probing.eval_config import SparseProbingEvalConfig
from sae_bench.evals.sparse_probing.main import run_eval_single_sae
from sae_bench.sae_bench_utils import dataset_info
from sae_bench.sae_bench_utils.general_utils import load_and_format_sae

NAME = "fancyzhx/ag_news"


def write_splits(labelled: Path, folder: Path) -> dict[str, int]:
    """Writes the two splits of a labelled text, and returns the most rows that both classes of a probe can have."""
    by_label: dict[int, list[str]] = collections.defaultdict(list)
    for line in labelled.read_text().splitlines():
        row = json.loads(line)
        by_label[int(row["label"])].append(row["text"])
    folder.mkdir(parents=True)
    sizes = {}
    for split in ("train", "test"):
        with (folder / f"{split}.jsonl").open("w") as file:
            for label, texts in sorted(by_label.items()):
                random.Random(label).shuffle(texts)
                cut = len(texts) // 5
                for text in texts[cut:] if split == "train" else texts[:cut]:
                    file.write(json.dumps({"text": text, "label": label}) + "\n")
        sizes[split] = 2 * min(
            len(texts) - len(texts) // 5 if split == "train" else len(texts) // 5 for texts in by_label.values()
        )
    dataset_info.chosen_classes_per_dataset[NAME] = [str(label) for label in sorted(by_label)]
    return sizes


def opened(path: str, view: bool) -> Any:
    if view:
        from distsae import SAE
        from distsae.export import BenchSAE

        return BenchSAE(SAE.load(path))
    import sae_lens

    return sae_lens.SAE.load_from_disk(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("sae", "model", "labelled"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--view", action="store_true", help="whether SAE is a run of distsae")
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    sae_path, model_path, labelled = (path.resolve() for path in (arguments.sae, arguments.model, arguments.labelled))
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
        sizes = write_splits(labelled, Path(NAME))
        config = SparseProbingEvalConfig(
            model_name="local",
            dataset_names=[NAME],
            probe_train_set_size=min(4000, sizes["train"]),
            probe_test_set_size=min(1000, sizes["test"]),
            random_seed=arguments.seed,
            llm_batch_size=32,
            llm_dtype="float32",
        )
        _, sae, _ = load_and_format_sae("exported", opened(str(sae_path), arguments.view), "cpu")
        found, _ = run_eval_single_sae(config, sae, hooked(str(model_path)), "cpu", "artifacts", save_activations=False)
    print(
        json.dumps(
            {"train": config.probe_train_set_size, "test": config.probe_test_set_size, **found[NAME + "_results"]},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
