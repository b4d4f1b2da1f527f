"""What a training leaves behind, for a notebook or a script: the SAE, the log, and the figures of its frozen rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distsae.model import SAE
from distsae.training.folder import RunFolder

__all__ = ["TrainedRun"]


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, read from its folder when something is asked for.

    Args:
        folder: folder of the run; of a sweep, the folder of all its runs.
        members: the runs of a sweep by name; empty for one run.
    """

    folder: Path
    members: Mapping[str, TrainedRun] = field(default_factory=dict)

    @cached_property
    def sae(self) -> SAE:
        """The finished SAE, on the CPU.

        Raises:
            WrongInput: this is a sweep, or a run that ended without an SAE; take one of `members`.
        """
        return SAE.load(self.folder)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged lines, one for each step that was logged, in order; see `metrics.jsonl` in the docs."""
        lines = RunFolder(self.folder).metrics.lines()
        by_step = {line["step"]: line for line in lines}  # a resumed run logs some steps again
        return [by_step[step] for step in sorted(by_step)]

    @property
    def frozen_rule(self) -> dict[str, Any]:
        """FVU and L0 of the finished SAE on held-out rows, beside the training rule's; empty without such rows."""
        file = self.folder / "frozen_rule.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}
