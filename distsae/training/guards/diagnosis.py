"""Stops a run that has left the finite numbers, and keeps what tells why.

Every rank writes its part of `RUN/diagnosis/step-00000123/`: what was not finite, the batch it had, the rows of the
parameters that are broken. Checkpoints are left alone: they are of the steps before, and the failed step is never one.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from distsae import __version__
from distsae.checkpoint import Ranks
from distsae.checkpoint.names import checkpoints
from distsae.checkpoint.tensorfile import write_tensors
from distsae.errors import Diverged
from distsae.training.config import TrainConfig
from distsae.training.folder import RunFolder
from distsae.training.guards.agreement import named_ranks
from distsae.training.optimizer_step import Circumstances
from distsae.training.state import TrainingState
from distsae.training.step import BatchOutcome

__all__ = ["Diagnosis", "look_at"]

_WEIGHTS = ("W_enc", "W_dec", "b_enc", "b_dec")
_MOST_ROWS = 1024
"""Rows of a parameter that are kept, and that are named: the first ones."""

_ROWS_SAID = 16
_METRICS_LINES = 100
_BLOCK = 1 << 24
"""Numbers looked at at once; a mask of them all would be as large as a quarter of the weights."""


class Diagnosis:
    """Looks at the numbers of each step; costs no collective unless they are broken.

    Args:
        config: the run.
        folder: of the run.
        state: the parameters, and Adam's moments.
        ranks: of the job.
        store: fingerprint of the store.
        wait_for_save: returns when the checkpoint under way, if any, is there.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        state: TrainingState,
        ranks: Ranks,
        store: str,
        wait_for_save: Callable[[], None],
    ) -> None:
        self._config = config
        self._folder = folder
        self._state = state
        self._ranks = ranks
        self._store = store
        self._settle = wait_for_save

    def check_weights(self, step: int, x: Tensor, circumstances: Circumstances) -> None:
        """Looks at the weights after step `step`, before they are saved. Collective.

        Raises:
            Diverged: on every rank, if any has weights that are not finite.
        """
        sums = torch.stack([value.detach().sum() for value in self._state.shard.parameters()])
        broken = not bool(sums.isfinite().all()) and any(
            look_at(value.detach())["not_finite"] for value in self._state.shard.parameters()
        )
        if any(self._ranks.exchange(broken)):
            self.stop(step, "weights are not finite after the update; they are not saved", x, circumstances)

    def stop(
        self,
        step: int,
        what: str,
        x: Tensor,
        circumstances: Circumstances,
        outcome: BatchOutcome | None = None,
        cause: Exception | None = None,
    ) -> NoReturn:
        """Writes the bundle and raises, on every rank. Collective.

        Args:
            step: number of the step, counted from 1.
            what: was not finite, in words.
            x: this data rank's rows of its batch, `[tokens, d_in]`.
            circumstances: what the step was done with.
            outcome: of the step, if it came so far.
            cause: what said so first.

        Raises:
            Diverged: always; the bundle, what every rank has seen and what to try are named.
        """
        place = self._folder.path / "diagnosis" / f"step-{step:08d}"
        tensors = self._tensors(x, outcome)
        self._settle()
        looks = {name: look_at(tensor) for name, tensor in tensors.items()}
        seen = {name: look for name, look in looks.items() if look["not_finite"]}
        failure = ""
        try:
            place.mkdir(parents=True, exist_ok=True)
            self._write(place, step, what, circumstances, tensors, looks)
        except OSError as error:
            failure = f"{type(error).__name__}: {error}"
        reports = self._ranks.exchange((platform.node(), failure, {name: _words(look) for name, look in seen.items()}))
        raise Diverged(
            f"step {step}: {what}; {_seen_by(reports)}; {_kept(place, reports)}; {_advice(reports)}"
        ) from cause

    def _tensors(self, x: Tensor, outcome: BatchOutcome | None) -> dict[str, Tensor]:
        tensors = {"batch": x} | {name: value.detach() for name, value in self._state.shard.named_parameters()}
        # DeepSpeed's would have to be gathered from all ranks first.
        moments = {name: value for name, value in self._state.engine.tensors().items() if isinstance(value, Tensor)}
        tensors |= {name: value for name, value in moments.items() if value.shape and value.is_floating_point()}
        if outcome is not None:
            for term, kind in zip(outcome.gradients.terms, ("main", "auxiliary"), strict=False):
                tensors |= {f"gradient.{kind}.x_hat": term.g, f"gradient.{kind}.scores": term.dots}
        return tensors

    def _write(
        self,
        place: Path,
        step: int,
        what: str,
        circumstances: Circumstances,
        tensors: Mapping[str, Tensor],
        looks: Mapping[str, dict[str, Any]],
    ) -> None:
        name = f"rank-{self._ranks.rank:05d}"
        facts = {
            "step": step,
            "what": what,
            "learning_rate": circumstances.learning_rate,
            "allocation": circumstances.allocation,
            "k": circumstances.k,
            "rank": self._ranks.rank,
            "ranks": self._ranks.size,
            "data_rank": self._ranks.data,
            "feature_rank": self._ranks.feature,
            "first_feature": self._state.shard.features.start,
            "host": platform.node(),
            "device": str(self._state.shard.b_dec.device),
            "versions": {"distsae": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            "store": {"path": self._config.store, "fingerprint": self._store},
            "tensors": looks,
            "reproduce": self._recipe(step),
        }
        (place / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
        kept = {"batch": tensors["batch"].float().cpu().contiguous()}
        for parameter, look in looks.items():
            if parameter in _WEIGHTS and look["rows"]:
                rows = torch.tensor(look["rows"])
                kept[f"{parameter}.rows"] = rows
                kept[parameter] = tensors[parameter][rows.to(tensors[parameter].device)].float().cpu().contiguous()
        file = place / f"{name}.safetensors"
        file.unlink(missing_ok=True)  # of the same step, tried before
        write_tensors(file, kept)
        if self._ranks.first:
            (place / "config.yaml").write_bytes((self._folder.path / "config.yaml").read_bytes())
            metrics = self._folder.path / "metrics.jsonl"
            lines = metrics.read_text().splitlines(keepends=True) if metrics.is_file() else []
            (place / "metrics.jsonl").write_text("".join(lines[-_METRICS_LINES:]))

    def _recipe(self, step: int) -> dict[str, Any]:
        """Returns where the step can be done again from."""
        saved = checkpoints(self._folder.checkpoints)
        return {
            "checkpoint": str(saved[-1]) if saved else None,
            "how": "train with this config.yaml into a copy of the run folder without `sae/` and `diagnosis/`, on the "
            f"same mesh: it goes on from the newest checkpoint and meets the same numbers at step {step}",
        }


def look_at(tensor: Tensor) -> dict[str, Any]:
    """Returns what is known of a tensor, for people and as JSON.

    Returns:
        `shape`; `not_finite`, the number of such entries; `rows`, the first of those that have one; `min`, `max` and
        the `norm` of the finite entries, null if there are none.
    """
    flat = tensor.reshape(tensor.shape[0], -1) if tensor.dim() else tensor.reshape(1, 1)
    size = max(_BLOCK // max(flat.shape[1], 1), 1)
    count = 0
    rows = list[int]()
    least = math.inf
    most = -math.inf
    squares = 0.0
    for first in range(0, flat.shape[0], size):
        block = flat[first : first + size].double()
        well = block.isfinite()
        bad = int((~well).sum())
        if bad:
            broken = (~well).any(1).nonzero().flatten()
            rows += [first + row for row in broken[: _MOST_ROWS - len(rows)].tolist()]
        if block.numel() > bad:
            finite = block[well]
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
            squares += float(finite.square().sum())
        count += bad
    some = most >= least
    return {
        "shape": [*tensor.shape],
        "not_finite": count,
        "rows": rows,
        "min": least if some else None,
        "max": most if some else None,
        "norm": math.sqrt(squares) if some and math.isfinite(squares) else None,
    }


def _words(look: dict[str, Any]) -> str:
    rows = look["rows"]
    shown = ", ".join(map(str, rows[:_ROWS_SAID])) + (" and more" if len(rows) > _ROWS_SAID else "")
    return f"{look['not_finite']} numbers in {'rows' if len(rows) > 1 else 'row'} {shown}"


Reports = list[tuple[str, str, dict[str, str]]]
"""Of each rank: its host, why it could not write, and what it has that is not finite."""


def _seen_by(reports: Reports) -> str:
    """Returns which ranks have what; ranks that have the same are named together."""
    hosts = [host for host, _, _ in reports]
    ranks_of: dict[tuple[str, ...], list[int]] = {}
    for rank, (_, _, seen) in enumerate(reports):
        ranks_of.setdefault(tuple(f"{name}: {words}" for name, words in seen.items()), []).append(rank)
    parts = [
        f"not finite on {named_ranks(ranks, hosts)}: {', '.join(seen)}" for seen, ranks in ranks_of.items() if seen
    ]
    return "; ".join(parts) or "batch and weights are finite on every rank: numbers have become too large"


def _kept(place: Path, reports: Reports) -> str:
    hosts = [host for host, _, _ in reports]
    failed = [rank for rank, (_, failure, _) in enumerate(reports) if failure]
    if not failed:
        return f"{place} has the batch and the broken weights"
    why = reports[failed[0]][1]
    return f"{place} is not complete: {named_ranks(failed, hosts)} could not write ({why})"


def _advice(reports: Reports) -> str:
    names = {name for _, _, seen in reports for name in seen}
    if "batch" in names:
        return "check the store (`distsae store verify`), whose rows are not finite, and produce those anew"
    if names & {*_WEIGHTS}:
        return "lower `optimizer.lr`; if only one rank has broken weights and it happens again, check its machine"
    return "lower `optimizer.lr`, set `optimizer.clip_norm`, or check the store for rows of huge values"
