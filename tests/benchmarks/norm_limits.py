"""Which rows should training leave out? SAEs with other `max_norm_ratio`, judged on the same rows.

    python -m tests.benchmarks.norm_limits --store STORE --runs RUN [RUN ...]

For each run, the FVU and the mean relative error of held-out rows by the frozen rule, over the rows whose norm is up to
each `--limits` times the median. The rows of a column are the same for all runs, whatever they left out themselves.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from distsae.model import SAE
from distsae.store import Store
from distsae.training.freezing.heldout_rows import heldout_rows


def rows_up_to(store: Store, hook: str, limits: list[float]) -> list[Tensor]:
    """Returns the held-out rows that judge, up to each limit, fp32."""
    norms = store.norms(hook)
    assert norms is not None, "the store must have norms; produce it again"
    rows = heldout_rows(store, hook)[1].float()
    lengths = torch.linalg.vector_norm(rows, dim=1)
    return [rows[lengths <= norms.limit(limit)] for limit in limits]


def judged(sae: SAE, rows: Tensor) -> tuple[float, float]:
    """Returns the FVU and the mean relative error of the rows."""
    with torch.no_grad():
        error = torch.cat([sae(part) - part for part in rows.split(2048)]).double()
    x = rows.double()
    fvu = error.square().sum() / (x - x.mean(0)).square().sum()
    relative = torch.linalg.vector_norm(error, dim=1) / torch.linalg.vector_norm(x, dim=1)
    return float(fvu), float(relative.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--runs", nargs="+", required=True, help="run folders, all of one hook")
    parser.add_argument(
        "--limits", nargs="+", type=float, default=[3.0, 5.0, 10.0], help="multiples of the median norm"
    )
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    saes = {run: SAE.load(run) for run in arguments.runs}
    parts = rows_up_to(store, next(iter(saes.values())).cfg.hook_name, arguments.limits)
    heads = [f"{limit:g} ({len(rows):,} rows)" for limit, rows in zip(arguments.limits, parts, strict=True)]
    print("FVU, mean relative error, of rows up to this many times the median norm\n")
    print(f"| run | {' | '.join(heads)} |\n|{(1 + len(heads)) * '---|'}")
    for run, sae in saes.items():
        cells = [f"{fvu:.4f}, {relative:.4f}" for fvu, relative in (judged(sae, rows) for rows in parts)]
        print(f"| {run} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
