"""What `distsae check --json` measured on a machine, as far as it bounds a step of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from distsae.checked_files import Between, WrongField, read_json_object, typed
from distsae.errors import WrongInput

__all__ = ["CheckedSizes", "MeasuredRates", "MeasuredStep", "read_rates"]

_MOST_BYTES = 1 << 20
_Positive = Annotated[float, Between(1e-30, 1e30)]


@dataclass(frozen=True)
class CheckedSizes:
    """The sizes that were checked with.

    Args:
        d_in: width of the activations.
        k: mean matches per token.
        batch_tokens: tokens of a batch.
        device: type of the device, `cpu` or `cuda`.
    """

    d_in: Annotated[int, Between(1)]
    k: Annotated[int, Between(1)]
    batch_tokens: Annotated[int, Between(1)]
    device: Literal["cpu", "cuda"]


@dataclass(frozen=True)
class MeasuredStep:
    """Seconds of a step of Mutual Choice on one process, by part.

    Args:
        d_sae: number of features.
        selection: the product and the selection of the matches.
        rows: reconstruction, loss, and what each match adds to the gradients.
        update: gradients of the rows, Adam, decoder rows of unit norm.
    """

    d_sae: int
    selection: float
    rows: float
    update: float


@dataclass(frozen=True)
class MeasuredRates:
    """The figures of a check.

    Args:
        sizes: sizes that the steps were measured with.
        steps: measured steps, at least one, by ascending width.
        read_bytes: bytes of stored rows that a process reads and prepares in a second; None if not measured.
        upload_bytes: bytes that a GPU receives from page-locked memory in a second; None if not measured.
        exchange_bytes: bytes that a process receives in a second in a sum over processes of this machine; None if not
            measured.
        exchanging: number of these processes.
        exchange_latency: seconds of a sum of one number over these processes; None if not measured.
    """

    sizes: CheckedSizes
    steps: tuple[MeasuredStep, ...]
    read_bytes: float | None = None
    upload_bytes: float | None = None
    exchange_bytes: float | None = None
    exchanging: int = 0
    exchange_latency: float | None = None


@dataclass(frozen=True)
class _StepFigures:
    d_sae: Annotated[int, Between(1)]
    selection_s: _Positive
    rows_s: _Positive
    update_s: _Positive


@dataclass(frozen=True)
class _RateFigures:
    read_bytes_per_s: _Positive | None = None
    to_gpu_bytes_per_s: _Positive | None = None
    sum_bytes_per_s: _Positive | None = None
    processes: Annotated[int, Between(1)] | None = None
    sum_latency_s: _Positive | None = None


@dataclass(frozen=True)
class _CheckFinding:
    state: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class _CheckFile:
    settings: CheckedSizes
    findings: list[_CheckFinding]


def read_rates(path: str) -> MeasuredRates:
    """Reads the file that `distsae check --json` wrote.

    Args:
        path: the file.

    Raises:
        WrongInput: there is no such file, it is not one of a check, or the check measured no step.
    """
    again = f"write it with `distsae check --json {path}`"
    try:
        found = typed(_CheckFile, read_json_object(Path(path), WrongInput, _MOST_BYTES))
        steps = []
        rates: dict[str, Any] = {}
        for finding in found.findings:
            if finding.state == "ok" and "step_s" in finding.figures:
                step = typed(_StepFigures, finding.figures, "figures")
                steps.append(MeasuredStep(step.d_sae, step.selection_s, step.rows_s, step.update_s))
            elif finding.state == "ok":
                rates |= finding.figures
        measured = typed(_RateFigures, rates, "figures")
    except FileNotFoundError as error:
        raise WrongInput(f"`check` (={path}) must be a file; got none; {again}") from error
    except (WrongField, WrongInput) as error:
        raise WrongInput(
            f"`check` (={path}) must be the JSON file of a check; got one in which {error}; {again}"
        ) from error
    if not steps:
        raise WrongInput(f"`check` (={path}) must have measured a step; got none; use `distsae check --minutes 15`")
    return MeasuredRates(
        found.settings,
        tuple(sorted(steps, key=lambda step: step.d_sae)),
        measured.read_bytes_per_s,
        measured.to_gpu_bytes_per_s,
        measured.sum_bytes_per_s,
        measured.processes or 0,
        measured.sum_latency_s,
    )
