"""Saving: all or nothing.

Every rank writes its file into a fresh temporary folder and reports its digest; rank 0 writes the manifest; the ranks
share the work of reading everything back; then rank 0 publishes the folder with one rename and moves `latest` last. A
process may be killed between any two of these instructions and the checkpoints published before stay as they were.

torch.distributed.checkpoint is not used, though it reshards well: it cannot say what a folder must contain (its
safetensors reader takes whatever files it finds), it has no digests, and its splits are `torch.chunk`'s alone.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch.distributed.device_mesh import DeviceMesh

from distsae.checkpoint.failures import CheckpointFailed
from distsae.checkpoint.file_digest import FileDigest
from distsae.checkpoint.manifest import Manifest, TensorRecord, write_manifest
from distsae.checkpoint.names import LATEST, clean_up, set_aside, step_name, temporary_name
from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.snapshot import Snapshot
from distsae.checkpoint.state import DTYPES, JSON, Value
from distsae.checkpoint.tensorfile import write_tensors
from distsae.checkpoint.verifying import check_files
from distsae.checkpoint.write_plan import plan_tensors
from distsae.durable import replace, sync
from distsae.errors import DistsaeError, WrongInput

__all__ = ["save", "save_snapshot"]


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Value],
    facts: Mapping[str, JSON],
    mesh: DeviceMesh | None = None,
) -> Path:
    """Saves a checkpoint; a collective, called by every rank of `mesh`.

    A checkpoint of the same step, sound or not, is replaced: the run that reaches a step again, resumed from an
    earlier one, owns it now. The old one keeps its data until the new one has its name.

    Args:
        folder: `RUN/checkpoints`, on a file system that all ranks share.
        step: the step that the state belongs to.
        tensors: what to save; replicated tensors are taken from rank 0.
        facts: anything else, as JSON; taken from rank 0.
        mesh: mesh of all processes with the dims `data` and `feature`, None for one process.

    Returns:
        The published folder, `folder/step-00001000`.

    Raises:
        WrongInput: the ranks' tensors do not make whole ones, or `facts` is not JSON.
        CheckpointFailed: a rank could not write or read its file, as on a full disk; raised alike on every rank, with
            the temporary folder removed and earlier checkpoints untouched.
    """
    ranks = Ranks(mesh)
    return save_snapshot(folder, step, Snapshot.take(tensors, ranks, None), facts, ranks)


def save_snapshot(folder: Path, step: int, snapshot: Snapshot, facts: Mapping[str, JSON], ranks: Ranks) -> Path:
    """Saves a checkpoint of what `Snapshot.take` took; see `save`."""
    plan = plan_tensors(ranks.together(lambda: _checked(snapshot, facts).holding), ranks.features, ranks.datas)
    temporary = folder / str(ranks.only_first(lambda: temporary_name(step)))
    needed = _bytes(plan)
    try:
        ranks.only_first(lambda: _open_attempt(temporary, needed))
        files: dict[str, FileDigest] = {}
        for written in ranks.together(lambda: _write_own(temporary, snapshot)):
            files |= written
        manifest = Manifest(step, dict(sorted(files.items())), plan, dict(facts))
        ranks.only_first(lambda: write_manifest(temporary, manifest))
        check_files(temporary, manifest.files, ranks)
        ranks.only_first(lambda: _publish(temporary, folder / step_name(step)))
    except DistsaeError as error:
        free = ranks.only_first(lambda: _give_up(temporary))
        raise CheckpointFailed(
            f"the checkpoint of step {step} could not be completed ({error}); it needs {needed:,} bytes in {folder}, "
            f"where {free:,} are free; earlier checkpoints are untouched; make room or mend the disk"
        ) from error
    return folder / step_name(step)


def _checked(snapshot: Snapshot, facts: Mapping[str, JSON]) -> Snapshot:
    """Refuses facts that the manifest could not hold."""
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WrongInput(f"`facts` must be plain JSON; got {error}; convert it before saving") from error
    return snapshot


def _bytes(plan: Mapping[str, TensorRecord]) -> int:
    return sum(math.prod(record.shape) * DTYPES[record.dtype].itemsize for record in plan.values())


def _open_attempt(temporary: Path, needed: int) -> None:
    folder = temporary.parent
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync(folder.parent)
    clean_up(folder)
    # To fill the last of the disk before failing would take it from everyone else who writes there.
    if (free := shutil.disk_usage(folder).free) < needed:
        raise CheckpointFailed(f"{folder} is on a disk that is too full: {free:,} bytes are free")
    temporary.mkdir()


def _write_own(temporary: Path, snapshot: Snapshot) -> dict[str, FileDigest]:
    """Writes what this rank has to write and returns the records of its files."""
    return {name: write_tensors(temporary / name, tensors) for name, tensors in snapshot.files.items()}


def _give_up(temporary: Path) -> int:
    """Removes what was written, and returns the bytes that are free then, 0 if nobody can say."""
    # The disk may be too broken to delete from; the error worth telling is the first one, and the next save tries
    # again.
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
    with contextlib.suppress(OSError):  # the checkpoint is there; this is a hint for people, and the next save's too
        replace(published.parent / LATEST, f"{published.name}\n".encode())
    if old is not None:
        # What cannot be deleted now is deleted by the next save.
        shutil.rmtree(old, ignore_errors=True)
