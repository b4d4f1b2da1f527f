"""Studies as they may turn out, made by hand."""

from __future__ import annotations

from distsae.reporting.study import CellResult, MemberResult, RateResult, StudyResult


def member(path, seed=0, state="finished", reason="", heldout_fvu=0.2, **figures):
    """A member; `figures` go into the frozen rule of its evaluation, which is left out without any."""
    evaluation = None
    if figures:
        evaluation = {"frozen_rule": dict(figures), "fvu": 0.9, "text_digest": "same"}
    return MemberResult(
        path=path, seed=seed, state=state, reason=reason, heldout_fvu=heldout_fvu, evaluation=evaluation
    )


def cell(method, k, values, d_sae=64, edge="", rates=()):
    """A cell with one member for each of `values`: figures of the frozen rule."""
    members = [member(f"{method}/k{k}-{seed}", seed, **figures) for seed, figures in enumerate(values)]
    first = members[0] if members else member(f"{method}/k{k}-0", state="waiting", heldout_fvu=None)
    best = RateResult(rate=1e-3, size=1e-3, member=first)
    return CellResult(
        method=method, d_sae=d_sae, k=k, rates=[best, *rates], best=best, edge=edge, members=members or [first]
    )


def figures(fvu, l0, recovered=0.9, dead=0.1):
    return {"fvu": fvu, "l0": l0, "loss_recovered_zero": recovered, "dead_share": dead}


def study():
    """Two methods, two values of k, two seeds; a rate diverged, a member failed, and a cell is still to be trained."""
    wide = RateResult(
        rate=3e-2, size=3e-2, member=member("a/wide", state="diverged", reason="at step 7", heldout_fvu=None)
    )
    small = RateResult(rate=3e-4, size=3e-4, member=member("a/small", heldout_fvu=0.35))
    cells = [
        cell("a <b>", 8, [figures(0.30, 8.1, 0.80), figures(0.34, 7.9, 0.82)], edge="highest", rates=[small, wide]),
        cell("a <b>", 16, [figures(0.20, 16.0, 0.90)]),
        cell("b", 8, [figures(0.28, 8.0, 0.85), figures(0.30, 8.0, 0.87)]),
        cell("b", 16, []),
    ]
    failed = member("b/k16-1", state="failed", reason="its training ended with exit code 1", heldout_fvu=None)
    members = [m for c in cells for m in c.members] + [wide.member, small.member, failed]
    return StudyResult(name="trial", cells=cells, facts={"Steps": "40", "b": "aux none"}, members=members)
