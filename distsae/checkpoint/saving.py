"""Saving a checkpoint: all of it or nothing.

Every rank writes its files into a fresh temporary folder and reports their digests. Rank 0 writes the manifest. The
ranks share the work of reading everything back. Then rank 0 publishes the folder with one rename, and moves `latest`
last. Any process may be killed between any two of these instructions: the checkpoints published before stay intact.

torch.distributed.checkpoint reshards well but is not used: it does not record what a folder must contain (its
safetensors reader takes whatever files it finds), it has no digests, and it can split only as `torch.chunk` does.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch.distributed.device_mesh import DeviceMesh

from distsae.checkpoint.file_digest import FileDigest
from distsae.checkpoint.manifest import Manifest, TensorRecord, write_manifest
from distsae.checkpoint.names import LATEST, clean_up, set_aside, step_name, temporary_name
from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.snapshot import Snapshot
from distsae.checkpoint.state import DTYPES, JSON, Value
from distsae.checkpoint.tensorfile import write_tensors
from distsae.checkpoint.verifying import check_files
from distsae.checkpoint.write_plan import RankTensors, plan_tensors
from distsae.durable import replace, sync
from distsae.errors import CheckpointFailed, DistsaeError, WrongInput

__all__ = ["save", "save_snapshot"]


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Value],
    facts: Mapping[str, JSON],
    mesh: DeviceMesh | None = None,
) -> Path:
    """Saves a checkpoint. Collective: every rank of `mesh` calls it.

    A checkpoint of the same step, sound or not, is replaced: a run that was resumed from an earlier step reaches this
    step again. The old checkpoint keeps its data until the new one has its name.

    Args:
        folder: folder of checkpoints, `RUN/checkpoints`, on a file system that all ranks share.
        step: optimizer steps done in this state.
        tensors: tensors to save; replicated ones are taken from rank 0.
        facts: plain values to save with them, as JSON; taken from rank 0.
        mesh: mesh of all processes with the dims `data` and `feature`; None for one process.

    Returns:
        The published folder, `folder/step-00001000`.

    Raises:
        WrongInput: the tensors of the ranks do not fit together, or `facts` is not JSON.
        CheckpointFailed: a rank could not write or read a file, on a full disk for example. Raised on every rank, after
            the temporary folder has been removed; earlier checkpoints are untouched.
    """
    ranks = Ranks(mesh)
    return save_snapshot(folder, step, Snapshot.take(tensors, ranks, None), facts, ranks)


def save_snapshot(folder: Path, step: int, snapshot: Snapshot, facts: Mapping[str, JSON], ranks: Ranks) -> Path:
    """Saves a checkpoint of the state that a snapshot holds; see `save`. Collective."""

    def checked_tensors() -> RankTensors:
        _require_json(facts)
        return snapshot.rank_tensors

    plan = plan_tensors(ranks.together(checked_tensors), ranks.feature_size, ranks.data_size)
    temporary = folder / str(ranks.only_first(lambda: temporary_name(step)))
    needed = _total_bytes(plan)
    try:
        ranks.only_first(lambda: _make_temporary(temporary, needed))
        files: dict[str, FileDigest] = {}
        for written in ranks.together(lambda: _write_files(temporary, snapshot)):
            files |= written
        manifest = Manifest(step, dict(sorted(files.items())), plan, dict(facts))
        ranks.only_first(lambda: write_manifest(temporary, manifest))
        check_files(temporary, manifest.files, ranks)
        ranks.only_first(lambda: _publish(temporary, folder / step_name(step)))
    except DistsaeError as error:
        free = ranks.only_first(lambda: _remove_temporary(temporary))
        remedy = "free some space" if free is not None and free < needed else "check the disk, and your quota on it"
        remedy = "make the folder writable again" if error.lasting else remedy
        failed = CheckpointFailed(
            f"the checkpoint of step {step} could not be completed ({error}); it needs {needed:,} bytes in {folder}, "
            f"where {free:,} are free; earlier checkpoints are untouched; {remedy}"
        )
        failed.lasting = error.lasting
        raise failed from error
    return folder / step_name(step)


def _require_json(facts: Mapping[str, JSON]) -> None:
    """Refuses facts that the manifest cannot hold."""
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WrongInput(f"`facts` must be plain JSON; got {error}; convert it before saving") from error


def _total_bytes(plan: Mapping[str, TensorRecord]) -> int:
    return sum(math.prod(record.shape) * DTYPES[record.dtype].itemsize for record in plan.values())


def _make_temporary(temporary: Path, needed: int) -> None:
    """Makes the temporary folder, after cleaning up its parent; refuses a disk with fewer than `needed` bytes free."""
    folder = temporary.parent
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync(folder.parent)
    clean_up(folder)
    # A save that filled the disk before it failed would take the space from every other process that writes there.
    if (free := shutil.disk_usage(folder).free) < needed:
        raise CheckpointFailed(f"{folder} is on a disk that is too full: {free:,} bytes are free")
    temporary.mkdir()


def _write_files(temporary: Path, snapshot: Snapshot) -> dict[str, FileDigest]:
    """Writes the files of this rank and returns the size and digest of each."""
    return {name: write_tensors(temporary / name, tensors) for name, tensors in snapshot.files.items()}


def _remove_temporary(temporary: Path) -> int:
    """Removes the temporary folder and returns the bytes that are free then, or 0 if that cannot be found out."""
    # A disk may be too broken to delete from. The error to report is the one that came first, and the next save tries
    # to delete again.
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        return shutil.disk_usage(temporary.parent).free
    except OSError:
        return 0


def _publish(temporary: Path, published: Path) -> None:
    sync(temporary)
    old = set_aside(published, "replaced") if published.exists() else None
    temporary.rename(published)
    sync(published.parent)
    # The checkpoint is published; `latest` is only a hint, and the next save writes it again.
    with contextlib.suppress(OSError):
        replace(published.parent / LATEST, f"{published.name}\n".encode())
    if old is not None:
        # If it cannot be deleted now, the next save deletes it.
        shutil.rmtree(old, ignore_errors=True)
