"""In how many of the non-activating contexts of `distsae explain` does the feature fire after all?

The contexts are encoded by the SAE, and compared with the upper estimate, tokens times density; then those that
`--store` leaves are counted in the same way.

    python -m tests.benchmarks.non_activating_contexts --run RUN --pages PAGES --store STORE
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import torch

from distsae import SAE
from distsae.reporting.explanations import ExplainConfig
from distsae.reporting.explanations.explain import ExplainPlan, plan_of
from distsae.store import Store, UnitContexts

EDGES = (0.0, 1e-4, 1e-3, 3e-3, 1e-2, 1.0)


def firing_in(contexts: set[int], sae: SAE, store: Store, split: str) -> dict[int, dict[int, list[int]]]:
    """Positions at which each feature fires, by feature and context."""
    found: dict[int, dict[int, list[int]]] = {}
    wanted, unit = np.array(sorted(contexts)), -1
    for chunk in store.chunks(split):
        if chunk.unit != unit:
            unit, placed = chunk.unit, UnitContexts.read(store, chunk.unit)
        x = store.read_chunk(sae.cfg.hook_name, chunk).float()
        context, position = placed.where(torch.arange(len(x)) + chunk.index * store.attributes.chunk_rows)
        ids = placed.context_id[context]
        kept = torch.from_numpy(np.isin(ids.numpy(), wanted))
        if kept.any():
            matches = sae.matches(x[kept])
            own, places = ids[kept].tolist(), position[kept].tolist()
            for token, feature in zip(matches.token.tolist(), matches.feature.tolist(), strict=True):
                found.setdefault(feature, {}).setdefault(own[token], []).append(places[token])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("run", "pages", "store"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--features", type=int, default=300)
    arguments = parser.parse_args()
    store, sae = Store.open(arguments.store), SAE.load(arguments.run).float().eval()
    wanted = {"run": arguments.pages, "dry_run": True, "max_features": arguments.features, "max_density": 1.0}
    table(plan_of(ExplainConfig(**wanted)), sae, store)
    print("\nwith --store")
    table(plan_of(ExplainConfig(**wanted, store=arguments.store, sae=arguments.run)), sae, store)


def table(plan: ExplainPlan, sae: SAE, store: Store) -> None:
    """Prints in how many of a plan's contexts the features fire, by density."""
    firings, count = plan.firings(plan.features), plan.config.scored_contexts
    drawn = [
        (own.feature, own.density, window)
        for own in plan.tables.read(plan.features)
        for window in plan.others.drawn(own, count, plan.config.seed, firings)
    ]
    fires = firing_in({window.context_id for _, _, window in drawn}, sae, store, "train")
    hit, density, bound = [], [], []
    for feature, share, window in drawn:
        start = window.first_position
        places = fires.get(feature, {}).get(window.context_id, [])
        hit.append(any(start <= place < start + len(window.tokens) for place in places))
        density.append(share)
        bound.append(min(1.0, len(window.tokens) * share))
    shares, hits, bounds = np.array(density), np.array(hit), np.array(bound)
    print(f"{'density':<18} {'contexts':>8} {'fires in':>9} {'estimate':>9}")
    for low, high in itertools.pairwise(EDGES):
        inside = (shares > low) & (shares <= high)
        if inside.any():
            print(
                f"{low:g} to {high:g}".ljust(18),
                f"{inside.sum():>8} {hits[inside].mean():>9.3f} {bounds[inside].mean():>9.3f}",
            )


if __name__ == "__main__":
    main()
