"""The work of one producer: which unit next, and what may go wrong on the way to its commit."""

from __future__ import annotations

import errno
import time
from pathlib import Path

from distsae.errors import CannotContinue, TornData
from distsae.producer.contexts import Contexts
from distsae.producer.crew import Place, unit_queue
from distsae.producer.job_progress import JobProgress
from distsae.producer.language_model import LanguageModel
from distsae.producer.unit import compute_unit
from distsae.store import (
    Claims,
    StoreAttributes,
    StorePaths,
    UnitData,
    commit_unit,
    committed_units,
    unit_contexts,
    unit_split,
    write_attempt,
)

__all__ = ["produce_units"]

_POLL = 0.3  # seconds between looks at what others have committed, when there is nothing to start


def produce_units(
    root: Path,
    attributes: StoreAttributes,
    contexts: Contexts,
    language_model: LanguageModel,
    claims: Claims,
    place: Place,
) -> None:
    """Returns when every unit is committed, by us or by others.

    Raises:
        CannotContinue: activations that cannot be stored, or a full disk.
    """
    paths, units = StorePaths(root), unit_contexts(attributes)
    queue = unit_queue(place, len(units))
    with JobProgress(root, [len(ids) * attributes.rows_per_context for ids in units]) as progress:
        while len(committed_units(root, len(units))) < len(units):
            started = False
            for unit in queue:
                name = paths.unit_name(unit)
                if paths.commit(unit).exists() or not claims.take(name):
                    continue
                try:
                    if not paths.commit(unit).exists():  # committed just before we claimed it
                        started = True
                        data = compute_unit(language_model, attributes, contexts, unit, units[unit], progress.working)
                        _write_and_commit(root, attributes, unit, unit_split(attributes, unit, len(units)), data)
                finally:
                    claims.release(name)
                progress.unit_ended()
            if not started:
                progress.refresh()
                time.sleep(_POLL)


def _write_and_commit(root: Path, attributes: StoreAttributes, unit: int, split: str, data: UnitData) -> None:
    try:
        commit_unit(root, write_attempt(root, attributes, unit, split, data))
    except (FileNotFoundError, TornData):
        # `distsae store collect` removes attempts whose unit another producer has committed.
        if not StorePaths(root).commit(unit).exists():
            raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CannotContinue(
            f"`out` (={root}) must have room for the store; got a full disk; do make room and run it again"
        ) from error
