"""What has become of the members of a study: finished, diverged, failed, or still to be trained."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distsae.checked_files import WrongField, read_json_object, shown, typed
from distsae.durable import replace
from distsae.errors import TornData
from distsae.exit_codes import DIVERGED
from distsae.recipes.study.grid import Member
from distsae.recipes.study.plan import StudyPlan
from distsae.reporting.run_files import read_evaluation
from distsae.training.folder import RunFolder

__all__ = ["Failure", "Outcomes"]


@dataclass(frozen=True)
class Failure:
    """Why a member has no result.

    Args:
        code: exit code of its training.
        reason: sentence for the user.
    """

    code: int
    reason: str

    @property
    def final(self) -> bool:
        """Whether the same training would end the same way: it diverged."""
        return self.code == DIVERGED


class Outcomes:
    """The members' folders, and the file `failures.json` in the folder of the study.

    Args:
        plan: the study.
    """

    def __init__(self, plan: StudyPlan) -> None:
        self._plan = plan
        self._path = Path(plan.config.out) / "failures.json"
        self._failures: dict[str, Failure] = {}
        if self._path.exists():
            try:
                self._failures = typed(dict[str, Failure], read_json_object(self._path))
            except WrongField as error:
                raise TornData(f"{self._path} is not a record of failures: {error}; remove it") from None

    def finished(self, member: Member) -> bool:
        """Returns whether the folder of a member has its SAE."""
        return RunFolder(self._plan.folder(member)).holds_sae_of(self._plan.tokens(member))

    def failure(self, member: Member) -> Failure | None:
        """Returns why a member has no result; None if it has one, or may still get one."""
        return None if self.finished(member) else self._failures.get(member.path)

    def to_train(self, member: Member) -> bool:
        """Returns whether a member is still to be trained; one that failed without diverging is tried again."""
        failure = self.failure(member)
        return not self.finished(member) and (failure is None or not failure.final)

    def fail(self, member: Member, code: int, reason: str) -> None:
        """Records that the training of a member has failed."""
        self._failures[member.path] = Failure(code, reason)
        self._write()

    def begin(self, member: Member) -> None:
        """Removes what is known of a member that will be trained: a failure, an evaluation of other weights."""
        if self._failures.pop(member.path, None) is not None:
            self._write()
        self.forget_evaluation(member)

    def forget_evaluation(self, member: Member) -> None:
        """Removes the evaluation of a member."""
        for name in ("evaluation.json", "evaluation.npz"):
            (self._plan.folder(member) / name).unlink(missing_ok=True)

    def heldout_fvu(self, member: Member) -> float | None:
        """Returns the FVU of the frozen rule on held-out rows, by which a learning rate is chosen."""
        if not self.finished(member):
            return None
        file = self._plan.folder(member) / "frozen_rule.json"
        value = read_json_object(file).get("fvu")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TornData(f"{file}: `fvu` must be a number; got {shown(value)}")
        return value

    def evaluation(self, member: Member) -> dict[str, Any] | None:
        """Returns the content of `evaluation.json`; None without one."""
        return read_evaluation(self._plan.folder(member) / "evaluation.json")

    def diverged_at(self, member: Member) -> int | None:
        """Returns the step at which the training of a member met a number that is not finite, as its diagnosis says."""
        steps = sorted((self._plan.folder(member) / "diagnosis").glob("step-*"))
        return int(steps[-1].name.removeprefix("step-")) if steps else None

    def free(self, member: Member) -> None:
        """Removes the checkpoints of a finished member."""
        shutil.rmtree(self._plan.folder(member) / "checkpoints", ignore_errors=True)

    def _write(self) -> None:
        content = {path: asdict(failure) for path, failure in self._failures.items()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace(self._path, (json.dumps(content, indent=2) + "\n").encode())
