"""How much more the mean of a batch varies than that of as many independent rows.

A batch whose rows come from one document varies far more: it is not a sample of the corpus. What is measured is
`E ||mean of a batch - mean of all||^2`, summed over dimensions, over the batches of whole epochs, divided by
`variance / rows of a batch`, which is what independent rows have (drawn with replacement; without, the share of rows
that a batch takes would be less). For comparison: the same rows in the order of the corpus, cut into batches; and rows
drawn at random, which shows how well the measurement itself does.

    python -m tests.benchmarks.batch_variance --store STORE [--hook HOOK] [--batch_tokens 4096] [--epochs 3]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from distsae.batches import StreamOrder
from distsae.batches.rows import RowReader
from distsae.seeds import numpy_generator
from distsae.store import Store


def in_streams(store: Store, hook: str, order: StreamOrder, steps: int) -> Tensor:
    """Returns the means of the first batches of an order, as training gets them, float64 `[batches, d_in]`."""
    reader = RowReader(store, hook, order, range(64))
    means = [_sum(reader.read(step)) / order.batch_tokens for step in range(steps)]
    reader.close()
    return torch.stack(means)


def in_windows(store: Store, batch_tokens: int, seed: int, units: int) -> StreamOrder:
    """Returns the order in which the rows would be read if the store were bounded, with windows of so many units."""
    chunks = store.chunks()
    numbers: dict[int, list[int]] = {}
    for number, chunk in enumerate(chunks):
        numbers.setdefault(chunk.unit // units, []).append(number)
    return StreamOrder([chunk.rows for chunk in chunks], batch_tokens, seed, windows=list(numbers.values()))


def natural_places(store: Store) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each train unit with its rows' places in the order of the corpus, among the train rows."""
    train = [record.index for record in store.units if record.split == "train"]
    keys = []
    for unit in train:
        ids = store.read_ids(unit)
        keys.append((ids.context_id * store.attributes.context_length + ids.position).numpy())
    ranks = np.argsort(np.argsort(np.concatenate(keys)))
    ends = np.cumsum([len(key) for key in keys])
    yield from zip(train, np.split(ranks, ends[:-1]), strict=True)


def by_place(store: Store, hook: str, batch_tokens: int, places: dict[int, np.ndarray]) -> Tensor:
    """Returns the means of batches of rows that have consecutive places, float64 `[batches, d_in]`."""
    batches = store.rows // batch_tokens
    sums = torch.zeros(batches + 1, store.d_in(hook), dtype=torch.float64)
    for chunk in store.chunks():
        start = chunk.index * store.attributes.chunk_rows
        batch = torch.from_numpy(places[chunk.unit][start : start + chunk.rows] // batch_tokens)
        sums.index_add_(0, batch, store.read_chunk(hook, chunk).double())
    return sums[:batches] / batch_tokens  # the tail, less than a batch, is left out


def ratio(means: Tensor, mean: Tensor, variance: float, batch_tokens: int) -> tuple[float, float]:
    """Returns the variance of the batch mean over that of independent rows, and its standard error."""
    each = (means - mean).square().sum(1) / (variance / batch_tokens)
    return float(each.mean()), float(each.std() / len(each) ** 0.5)


def _sum(rows: Tensor) -> Tensor:
    return rows.double().sum(0)


def main() -> None:
    """Prints a line for each order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--hook", help="hook to read; the first one without it")
    parser.add_argument("--batch_tokens", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    store = Store.open(given.store)
    hook, tokens = given.hook or store.attributes.hooks[0], given.batch_tokens
    natural = dict(natural_places(store))
    shuffled = numpy_generator(given.seed, "batch variance").permutation(store.rows)
    ends = np.cumsum([len(places) for places in natural.values()])
    drawn = dict(zip(natural, np.split(shuffled, ends[:-1]), strict=True))
    # Of the rows themselves, in float64: the sealed mean is fp32.
    mean = sum(_sum(store.read_chunk(hook, chunk)) for chunk in store.chunks()) / store.rows
    assert isinstance(mean, Tensor)
    variance = store.statistics(hook).variance
    epochs = StreamOrder.of(store, tokens, given.seed)
    print(
        f"{store.rows:,} rows of {store.path}, hook {hook}, batches of {tokens} rows; variance of the batch mean over "
        "that of independent rows\n\n| order | ratio | standard error | batches |\n|---|---|---|---|"
    )
    for name, means in (
        (
            f"64 streams over permuted chunks, {given.epochs} epochs",
            in_streams(store, hook, epochs, given.epochs * epochs.steps_per_epoch),
        ),
        *(
            (f"the same in windows of {units} unit(s)", in_streams(store, hook, windowed, windowed.steps_per_epoch))
            for units in (1, 2)
            for windowed in [in_windows(store, tokens, given.seed, units)]
        ),
        ("drawn at random", by_place(store, hook, tokens, drawn)),
        ("as in the corpus", by_place(store, hook, tokens, natural)),
    ):
        value, error = ratio(means, mean, variance, tokens)
        print(f"| {name} | {value:.3f} | {error:.3f} | {len(means)} |", flush=True)


if __name__ == "__main__":
    main()
