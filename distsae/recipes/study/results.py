"""What is known of a study, read from its members' folders."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from distsae.nested_keys import flat_keys
from distsae.recipes.study.config import Rate
from distsae.recipes.study.grid import GridCell, Member
from distsae.recipes.study.outcomes import Outcomes
from distsae.recipes.study.plan import StudyPlan
from distsae.recipes.study.rates import best_rate, edge_of
from distsae.reporting.study import CellResult, MemberResult, RateResult, State, StudyResult

__all__ = ["best_of", "study_result"]


def study_result(plan: StudyPlan, outcomes: Outcomes) -> StudyResult:
    """Returns the results of all cells, those of an unfinished study as far as they are known."""
    cells = []
    members: dict[str, MemberResult] = {}
    for cell in plan.cells:
        found = {member.path: _member(member, outcomes) for member in (*cell.trials, *_repeats(cell, outcomes))}
        members |= found
        rates = [
            RateResult(rate=rate, size=plan.size_of(cell, rate), member=found[member.path])
            for rate, member in zip(cell.rates, cell.trials, strict=True)
        ]
        best = best_of(cell, outcomes)
        edge = None if best is None else edge_of(cell.rates, best, partial(plan.size_of, cell))
        cells.append(
            CellResult(
                method=cell.method.name,
                d_sae=cell.d_sae,
                k=cell.k,
                rates=rates,
                best=None if best is None else rates[cell.rates.index(best)],
                edge=edge or "",
                members=[] if best is None else [found[member.path] for member in cell.repeats(best)],
            )
        )
    name = Path(plan.config.out).resolve().name
    return StudyResult(name=name, cells=cells, facts=_facts(plan), members=list(members.values()))


def best_of(cell: GridCell, outcomes: Outcomes) -> Rate | None:
    """Returns the best learning rate of a cell; None while a rate is still to be tried, or if all diverged."""
    if len(cell.rates) == 1:
        return cell.rates[0]
    if any(outcomes.to_train(member) and outcomes.failure(member) is None for member in cell.trials):
        return None
    return best_rate({member.lr: outcomes.heldout_fvu(member) for member in cell.trials})


def _repeats(cell: GridCell, outcomes: Outcomes) -> tuple[Member, ...]:
    best = best_of(cell, outcomes)
    return () if best is None else cell.repeats(best)


def _member(member: Member, outcomes: Outcomes) -> MemberResult:
    failure = outcomes.failure(member)
    state: State = "waiting"
    if outcomes.finished(member):
        state = "finished"
    elif failure is not None:
        state = "diverged" if failure.final else "failed"
    return MemberResult(
        path=member.path,
        seed=member.seed,
        state=state,
        reason="" if failure is None else failure.reason,
        heldout_fvu=outcomes.heldout_fvu(member),
        evaluation=outcomes.evaluation(member),
    )


def _facts(plan: StudyPlan) -> dict[str, str]:
    """Returns what all members share, and in what the methods differ."""
    attributes, bases = plan.store.attributes, list(plan.bases.values())
    first = bases[0]
    facts = {
        "Language model": attributes.model,
        "Hook": str(first.hook),
        "Corpus": attributes.corpus,
        "Rows in the store": f"{plan.store.rows:,}",
        "Steps": _shared([f"{base.steps:,}" for base in bases]),
        "Rows of a batch": _shared([f"{base.batch_tokens:,}" for base in bases]),
        "Evaluated tokens, at most": f"{plan.evaluation.max_tokens:,}",
        "Store": plan.config.store,
    }
    if shared := flat_keys(plan.config.common):
        facts["All methods"] = ", ".join(f"{key} {value}" for key, value in shared.items())
    for method in plan.methods:
        own = _own_keys(method.keys, plan.config.common)
        if method.peer is not None:
            own = {
                "peer": method.peer,
                **({"normalise": method.normalise} if method.normalise else {}),
                **method.options,
            }
        facts[method.name] = ", ".join(f"{key} {value}" for key, value in own.items()) or "as all share"
    return facts


def _own_keys(keys: Mapping[str, object], common: Mapping[str, object]) -> dict[str, object]:
    shared = flat_keys(dict(common))
    return {key: value for key, value in keys.items() if key not in shared or shared[key] != value}


def _shared(texts: list[str]) -> str:
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)
