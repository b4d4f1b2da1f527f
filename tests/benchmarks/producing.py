"""What producing costs over the bare forward pass: rows per second, and processor time.

The bare way runs the language model over the same batches, with a plain forward hook that ends each pass at the hook's
module, and keeps nothing. The full way is that of `distsae produce` from contexts to committed units: checks, storage
dtype, permutation, Zarr, checksums, sums, digest, fsync, commit. Between them stand its two halves, each
alone. All ways go once in each round, and every ratio is taken within its round. Processor time is that of all threads;
on a machine that others use it says more than the rates.

    python -m tests.benchmarks.producing                          # the embedded model on the embedded corpus
    python -m tests.benchmarks.producing --model DIR --corpus FILE --hook blocks.3.resid_post
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from distsae.language_model import LanguageModel, hook_widths, load_language_model
from distsae.producer.producer_rank import ProducerRank
from distsae.producer.stopping import Stop
from distsae.producer.unit import compute_unit
from distsae.producer.unit_loop import produce_units
from distsae.producer.unit_writer import commit_data
from distsae.recipes import embedded_corpus, embedded_model
from distsae.store import Claims, StoreAttributes, StorePaths, UnitData, begin_store, unit_contexts
from distsae.text import Contexts, documents, pack


class _Stopped(Exception):
    pass


class Ways:
    """Ways to run the model over all contexts; each takes an empty folder."""

    def __init__(self, language_model: LanguageModel, contexts: Contexts, hook: str, path: str, options: dict) -> None:
        self.language_model = language_model
        self.contexts = contexts
        self.path = path
        self.attributes = StoreAttributes(
            model=language_model.name,
            model_revision=language_model.revision,
            model_digest=language_model.digest,
            tokenizer_digest=language_model.tokenizer_digest,
            corpus="benchmark",
            corpus_fingerprint="benchmark",
            hooks=(hook,),
            d_in=hook_widths(language_model.model, [hook]),
            context_length=contexts.token_ids.shape[1],
            prepend_bos=True,
            excluded_positions=1,
            contexts=len(contexts),
            heldout_contexts=0,
            seed=0,
            **options,
        )
        self.units = unit_contexts(self.attributes)
        self.rows = len(contexts) * self.attributes.rows_per_context
        self._computed = [self._compute(0)]

    @torch.inference_mode()
    def bare(self, root: Path) -> None:
        """The model and a hook that ends the pass, nothing else."""
        model: nn.Module = self.language_model.model

        def stop(*_: object) -> None:
            raise _Stopped

        handle = model.get_submodule(self.path).register_forward_hook(stop)
        for ids in self.units:
            token_ids = self.contexts.token_ids[torch.from_numpy(ids)].long()
            for start in range(0, len(token_ids), self.attributes.batch_contexts):
                try:
                    model(input_ids=token_ids[start : start + self.attributes.batch_contexts], use_cache=False)
                except _Stopped:
                    continue
        handle.remove()

    def computed(self, root: Path) -> None:
        """Units in memory, permuted and in the storage dtype."""
        for unit in range(len(self.units)):
            self._computed[0] = self._compute(unit)

    def written(self, root: Path) -> None:
        """A unit that is in memory to disk, as often as there are units."""
        begin_store(root, self.attributes)
        for unit in range(len(self.units)):
            commit_data(root, self.attributes, unit, "train", self._computed[0])

    def full(self, root: Path) -> None:
        """Everything; writing overlaps with computing but for the last unit."""
        begin_store(root, self.attributes)
        with Stop(lambda: "") as stop, Claims(StorePaths(root).claims) as claims:
            produce_units(
                root, self.attributes, self.contexts, self.language_model, claims, ProducerRank(0, 1, 0), stop
            )

    def _compute(self, unit: int) -> UnitData:
        ids = self.units[unit]
        return compute_unit(self.language_model, self.attributes, self.contexts, unit, ids, lambda rows: None)


def measure(ways: Ways, rounds: int, scratch: Path) -> None:
    """Prints the table."""
    runs: dict[str, Callable[[Path], None]] = {
        "bare forward passes to the hook": ways.bare,
        "units computed, not written": ways.computed,
        "units written, not computed": ways.written,
        "both, as `distsae produce` does": ways.full,
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    busy: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):  # the first round warms up
        for name, run in runs.items():
            root = scratch / "store"
            begun, processor = time.perf_counter(), time.process_time()
            run(root)
            taken, processor = time.perf_counter() - begun, time.process_time() - processor
            shutil.rmtree(root, ignore_errors=True)
            if number:
                seconds[name].append(taken)
                busy[name].append(processor)
    bare = next(iter(runs))
    print(
        f"{ways.attributes.model}: {ways.rows:,} rows of width {ways.attributes.d_in} in {len(ways.units)} units, "
        f"{ways.attributes.dtype}; {rounds} rounds, medians (least, most); load average {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores; torch threads {torch.get_num_threads()}\n\n"
        "| way | rows/s | time over bare | CPU s per million rows | CPU over bare |\n|---|---|---|---|---|"
    )
    for name in runs:
        over = [own / other for own, other in zip(seconds[name], seconds[bare], strict=True)]
        cpu = [own / other for own, other in zip(busy[name], busy[bare], strict=True)]
        print(
            f"| {name} | {ways.rows / statistics.median(seconds[name]):,.0f} | {_spread(over)} | "
            f"{statistics.median(busy[name]) / ways.rows * 1e6:.2f} | {_spread(cpu)} |"
        )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f}, {max(values):.3f})"


def main() -> None:
    """Measures one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(embedded_model()))
    parser.add_argument("--corpus", help="a .jsonl, .txt or .parquet file; the embedded one without it")
    parser.add_argument("--hook", default="blocks.2.resid_post", help="the output of a block, blocks.N.resid_post")
    parser.add_argument("--path", default="transformer.h.{}", help="of the block's module, for the bare way")
    parser.add_argument("--rows", type=int, default=2**17)
    parser.add_argument("--unit_rows", type=int, default=2**15)
    parser.add_argument("--dtype", default="fp16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scratch", type=Path, help="folder for the stores; a temporary one without it")
    given = parser.parse_args()
    texts = documents(given.corpus) if given.corpus else embedded_corpus.documents()
    language_model = load_language_model(given.model)
    contexts = pack(texts, language_model.tokenizer, 128, given.rows // 127)
    path = given.path.format(given.hook.split(".")[1])
    ways = Ways(language_model, contexts, given.hook, path, {"unit_rows": given.unit_rows, "dtype": given.dtype})
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        measure(ways, given.rounds, Path(folder))


if __name__ == "__main__":
    main()
