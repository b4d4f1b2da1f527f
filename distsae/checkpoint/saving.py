"""Saving: all or nothing.

Every rank writes its file into a fresh temporary folder and reports its digest; rank 0 writes the manifest; the ranks
share the work of reading everything back; then rank 0 publishes the folder with one rename and moves `latest` last. A
process may be killed between any two of these instructions and the checkpoints published before stay as they were.

torch.distributed.checkpoint is not used, though it reshards well: it cannot say what a folder must contain (its
safetensors reader takes whatever files it finds), it has no digests, and its splits are `torch.chunk`'s alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from distsae.checkpoint.disk import FileRecord, replace_text, sync_folder
from distsae.checkpoint.failures import CheckpointFailed
from distsae.checkpoint.manifest import Manifest, write_manifest
from distsae.checkpoint.names import LATEST, set_aside, settle, step_name, temporary_name
from distsae.checkpoint.plan import REPLICATED, Holding, plan_tensors, shard_file
from distsae.checkpoint.ranks import Ranks
from distsae.checkpoint.state import JSON, Shard, describe
from distsae.checkpoint.tensorfile import write_tensors
from distsae.checkpoint.verifying import check_files
from distsae.errors import DistsaeError, WrongInput

__all__ = ["save"]


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor | Shard],
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
    plan = plan_tensors(_everyones(ranks, tensors, facts), ranks.features)
    temporary = folder / str(ranks.only_first(lambda: temporary_name(step)))
    try:
        ranks.only_first(lambda: _open_attempt(temporary))
        files: dict[str, FileRecord] = {}
        for written in ranks.together(lambda: _write_own(temporary, ranks, tensors)):
            files |= written
        manifest = Manifest(step, dict(sorted(files.items())), plan, dict(facts))
        ranks.only_first(lambda: write_manifest(temporary, manifest))
        check_files(temporary, manifest.files, ranks)
        ranks.only_first(lambda: _publish(temporary, folder / step_name(step)))
    except DistsaeError as error:
        if ranks.first:
            # The disk may be too broken to delete from; the error worth telling is the first one, and the next save
            # tries again.
            shutil.rmtree(temporary, ignore_errors=True)
        ranks.exchange("removed")
        raise CheckpointFailed(
            f"the checkpoint of step {step} could not be completed ({error}); earlier checkpoints in {folder} are "
            f"untouched; make room or mend the disk and resume from the newest one"
        ) from error
    return folder / step_name(step)


def _everyones(ranks: Ranks, tensors: Mapping[str, Tensor | Shard], facts: Mapping[str, JSON]) -> list[Holding]:
    """What each rank holds, with `facts` checked on the way."""

    def own() -> Holding:
        try:
            json.dumps(facts, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise WrongInput(f"`facts` must be plain JSON; got {error}; do convert it before saving") from error
        return Holding(ranks.feature, describe(tensors))

    return ranks.together(own)


def _open_attempt(temporary: Path) -> None:
    temporary.parent.mkdir(parents=True, exist_ok=True)
    settle(temporary.parent)
    temporary.mkdir()


def _write_own(temporary: Path, ranks: Ranks, tensors: Mapping[str, Tensor | Shard]) -> dict[str, FileRecord]:
    """Writes what this rank has to write and returns the records of its files."""
    written = {}
    replicated = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    if ranks.first and replicated:
        written[REPLICATED] = write_tensors(temporary / REPLICATED, replicated)
    rows = {name: value.local for name, value in tensors.items() if isinstance(value, Shard) and len(value.local)}
    if ranks.data == 0 and rows:
        name = shard_file(ranks.feature, ranks.features)
        written[name] = write_tensors(temporary / name, rows)
    return written


def _publish(temporary: Path, published: Path) -> None:
    sync_folder(temporary)
    old = set_aside(published, "replaced") if published.exists() else None
    temporary.rename(published)
    sync_folder(published.parent)
    replace_text(published.parent / LATEST, published.name + "\n")
    if old is not None:
        # What cannot be deleted now is deleted by the next save.
        shutil.rmtree(old, ignore_errors=True)
