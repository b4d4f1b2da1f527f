"""Faults after which training must stop: a store with a broken row, a NaN among the weights or the gradients."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import zarr

from distsae.batches import StreamOrder
from distsae.store import Store
from distsae.store.json_files import read_json, replace_json
from distsae.training.engines import DeepSpeedEngine, PlainEngine
from distsae.training.run import Run

__all__ = ["broken_gradient", "broken_weights", "store_with_broken_row"]


def store_with_broken_row(sound: Path, path: Path, hook: str, batch_tokens: int, of_step: int, value: float) -> Path:
    """Copies a store and breaks one number in the first row of a step's batch; all checksums are made to match.

    Args:
        sound: store to copy.
        path: folder of the copy.
        hook: hook whose activations are broken.
        batch_tokens: token rows in a global batch of the run that will read the copy, with seed 0.
        of_step: number of the step, counted from 0.
        value: value of the broken number.

    Returns:
        The folder of the copy.
    """
    shutil.copytree(sound, path)
    store = Store.open(path)
    part = StreamOrder.of(store, batch_tokens, 0).slices(of_step, 0)[0]
    chunk = store.chunks("train")[part.chunk]
    (folder,) = (path / "data" / f"unit-{chunk.unit:06d}").glob(f"*/act/{hook}")
    array = zarr.open_array(str(folder), mode="r+")
    array[chunk.index * array.chunks[0] + part.start, 3] = value
    # A chunk file ends with the crc32c of its payload.
    file = f"c/{chunk.index}/0"
    crc32c = int.from_bytes((folder / file).read_bytes()[-4:], "little")
    record_path = path / "commits" / f"unit-{chunk.unit:06d}.json"
    record = read_json(record_path)
    record["files"][f"act/{hook}/{file}"][1] = crc32c
    replace_json(record_path, record)
    return path


@contextmanager
def broken_weights(rank: int, at_step: int, name: str = "W_enc") -> Iterator[None]:
    """Puts a NaN into row 2 of a parameter on one rank, before step `at_step`, counted from 0."""
    step = Run.step
    index = (2, 1) if name.startswith("W") else (2,)

    def breaking_step(run, x):
        if run.done == at_step and run.job.mesh.world.rank == rank:
            with torch.no_grad():
                getattr(run.state.shard, name)[index] = float("nan")
        return step(run, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "step", breaking_step)
        yield


@contextmanager
def broken_gradient(at_step: int, value: float) -> Iterator[None]:
    """Breaks one number that this rank's gradients are summed from, in step `at_step`, counted from 0."""
    updates = []

    def breaking(update):
        def broken(engine, gradients, rate):
            updates.append(rate)
            if len(updates) == at_step + 1:
                gradients.terms[0].dots[0] = value
            return update(engine, gradients, rate)

        return broken

    with pytest.MonkeyPatch.context() as patch:
        for engine in (PlainEngine, DeepSpeedEngine):
            patch.setattr(engine, "update", breaking(engine.update))
        yield
