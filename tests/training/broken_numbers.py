"""Faults that training cannot survive, really made: a store with a broken row, weights that are not numbers."""

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
from distsae.training import PlainEngine
from distsae.training.run import Run

__all__ = ["broken_gradient", "broken_weights", "store_with_broken_row"]


def store_with_broken_row(sound: Path, path: Path, hook: str, batch_tokens: int, of_step: int, value: float) -> Path:
    """Copies a store and breaks one number, and all checksums with it, in the first row of a step's batch.

    Args:
        sound: the store.
        path: of the copy.
        hook: to break a row of.
        batch_tokens: of the run that will read it, with seed 0.
        of_step: counted from 0.
        value: to put there.
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
    record = path / "commits" / f"unit-{chunk.unit:06d}.json"
    promised = read_json(record)
    promised["files"][f"act/{hook}/{file}"][1] = crc32c
    replace_json(record, promised)
    return path


@contextmanager
def broken_weights(rank: int, at_step: int, name: str = "W_enc") -> Iterator[None]:
    """Puts a NaN into row 2 of a parameter of one rank, before step `at_step`, counted from 0."""
    step_of, index = Run.step, (2, 1) if name.startswith("W") else (2,)

    def stepped(running, x):
        if running.done == at_step and running.job.mesh.world.rank == rank:
            with torch.no_grad():
                getattr(running.state.shard, name)[index] = float("nan")
        return step_of(running, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "step", stepped)
        yield


@contextmanager
def broken_gradient(at_step: int, value: float) -> Iterator[None]:
    """Breaks one number of what this rank's gradients are summed from, in step `at_step`, counted from 0."""
    update_of, updates = PlainEngine.update, []

    def broken(engine, gradients, rate):
        updates.append(rate)
        if len(updates) == at_step + 1:
            gradients.terms[0].dots[0] = value
        return update_of(engine, gradients, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainEngine, "update", broken)
        yield
