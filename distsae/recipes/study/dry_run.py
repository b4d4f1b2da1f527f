"""`distsae study --dry_run`: the members, and what they are in all, before any work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from distsae.recipes.study.grid import Member
from distsae.recipes.study.jobs import jobs_of
from distsae.recipes.study.outcomes import Outcomes
from distsae.recipes.study.plan import StudyPlan
from distsae.reporting.wording import amount
from distsae.training import TrainConfig

__all__ = ["listing", "members_to_come"]


def members_to_come(plan: StudyPlan) -> list[Member]:
    """Returns as many members as are trained in the end; which rate the later seeds have is not known yet."""
    return [member for cell in plan.cells for member in (*cell.trials, *cell.repeats(cell.rates[0])[1:])]


def listing(plan: StudyPlan, outcomes: Outcomes, fits: Callable[[TrainConfig], bool]) -> str:
    """Returns the plan as text: a line for each cell, then sums.

    Args:
        plan: the study.
        outcomes: what is there already.
        fits: function that returns whether the members of a sweep fit into memory together.
    """
    rows = [["method", "d_sae", "k", "learning rates", "seeds", "members", "finished", "steps each", "side by side"]]
    for cell in plan.cells:
        base = plan.bases[cell.method.name]
        known = {member.path: member for rate in cell.rates for member in cell.repeats(rate)}
        rows.append(
            [
                cell.method.name,
                f"{cell.d_sae:,}",
                str(cell.k),
                " ".join(map(str, cell.rates)),
                " ".join(map(str, cell.seeds)),
                str(cell.size),
                str(sum(map(outcomes.finished, known.values()))),
                f"{base.steps:,}",
                "one at a time"
                if cell.method.peer
                else _side_by_side(plan, cell.trials, cell.repeats(cell.rates[0]), fits),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    members = members_to_come(plan)
    steps = sum(plan.bases[member.method.name].steps or 0 for member in members)
    tokens = sum(plan.tokens(member) for member in members)
    evaluated = sum(len(cell.seeds) for cell in plan.cells)
    lines += [
        "",
        f"{len(members)} members in {len(plan.cells)} lines of the table: {steps:,} steps, {amount(tokens)} tokens of "
        "training",
        f"{evaluated} members are evaluated, on at most {plan.evaluation.max_tokens:,} tokens each",
    ]
    if any(len(cell.rates) > 1 and len(cell.seeds) > 1 for cell in plan.cells):
        lines.append("with several rates, the seeds after the first are trained at the best rate alone")
    return "\n".join(lines)


def _side_by_side(
    plan: StudyPlan, trials: tuple[Member, ...], repeats: tuple[Member, ...], fits: Callable[[TrainConfig], bool]
) -> str:
    """Returns how many members are trained at once, first to find the best rate, then with the other seeds."""
    base = replace(plan.bases[trials[0].method.name])
    rounds = [trials, repeats[1:]] if len(trials) > 1 else [repeats]
    texts = []
    for members in rounds:
        if members:
            jobs = jobs_of(base, members, fits, plan.config.side_by_side)
            texts.append("+".join(str(len(job.members)) for job in jobs))
    return ", then ".join(texts)
