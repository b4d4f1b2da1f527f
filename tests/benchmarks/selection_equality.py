"""Does the prefilter ever change a selection? A training run on real activations, each step compared with dense fp32.

    python -m tests.benchmarks.selection_equality --store STORE --hook blocks.3.resid_post --steps 200

The run trains with the prefilter on. Before each step the same weights and batch are also scored by one fp32 product of
everything, and selected from in full, without a history. Two fp32 sums of the same terms differ in their last
bits, so a pair of scores within rounding of the cut may change places: the table counts such matches, and says how far
from the cut, in units of the fp32 spacing there, the furthest of them lay.
"""

from __future__ import annotations

import argparse

import torch

from distsae.allocation import (
    FeatureSelector,
    MutualSelector,
    Placement,
    QuotaCredit,
    Selector,
    TokenSelector,
    select,
    zipf_quotas,
)
from distsae.batches import BatchReader
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.store import Store
from distsae.training import OptimizerConfig, PlainEngine, Selectors, forward_backward

RULES = ("token_choice", "mutual_choice", "feature_choice")


def _selector(rule: str, k: int, d_sae: int) -> Selector:
    match rule:
        case "token_choice":
            return TokenSelector(k)
        case "mutual_choice":
            return MutualSelector(k)
        case _:
            return FeatureSelector(d_sae)


def _compare(rule: str, arguments: argparse.Namespace) -> str:
    """Trains with one rule and returns its row of the table."""
    store = Store.open(arguments.store)
    k = arguments.k
    d_sae = arguments.d_sae
    tokens = arguments.batch_tokens
    reader = BatchReader(store, arguments.hook, tokens, 0, 0, 1)
    sealed, normalisation = store.statistics(arguments.hook), reader.normalisation
    mean, variance = normalisation.apply(sealed.mean.clone()), sealed.variance * normalisation.scale**2
    shard = FeatureShard(store.d_in(arguments.hook), d_sae, range(d_sae), mean, seed=0, prefilter=True)
    optimizer = OptimizerConfig()
    mesh, engine = build_mesh(MeshConfig(), 1, "cpu"), PlainEngine(shard, build_mesh(MeshConfig(), 1, "cpu"), optimizer)
    selector = _selector(rule, k, d_sae)
    credit = QuotaCredit(zipf_quotas(d_sae, k, s=1.0, q=d_sae / 64), k)
    differing = steps_differing = matches = 0
    furthest = loss = 0.0
    for step in range(arguments.steps):
        x = reader.batch(step).x
        plain = _selector(rule, k, d_sae)
        if isinstance(selector, FeatureSelector) and isinstance(plain, FeatureSelector):
            quotas = credit.pay(tokens)
            selector.grant(quotas)
            plain.grant(quotas)
        with torch.no_grad():
            scores = torch.addmm(shard.b_enc[:, None], shard.W_enc, (x - shard.b_dec).t())
        (expected,) = select([plain], lambda scores=scores: [(0, scores)], Placement.solo(d_sae), tokens)
        expected = expected.by_token()
        outcome = forward_backward(shard, x, mesh, Selectors(selector), mean, variance, 1 / 32)
        found = outcome.matches.by_token()
        matches += len(found)
        keys, wanted = (m.token * d_sae + m.feature for m in (found, expected))
        other = torch.cat([wanted[~torch.isin(wanted, keys)], keys[~torch.isin(keys, wanted)]])
        if other.numel():
            differing += int((~torch.isin(keys, wanted)).sum())
            steps_differing += 1
            token, feature = other // d_sae, other % d_sae
            group = {"token_choice": token, "feature_choice": feature}.get(rule, torch.zeros_like(token))
            size = {"token_choice": tokens, "feature_choice": d_sae}.get(rule, 1)
            place = {"token_choice": expected.token, "feature_choice": expected.feature}.get(
                rule, torch.zeros_like(expected.token)
            )
            cuts = torch.full((size,), torch.inf).scatter_reduce(0, place, expected.score, "amin")[group]
            spacing = torch.nextafter(cuts, torch.full_like(cuts, torch.inf)) - cuts
            furthest = max(furthest, float(((scores[feature, token] - cuts).abs() / spacing).max()))
        loss = outcome.loss
        engine.update(outcome.gradients, optimizer.rate(step, arguments.steps, d_sae))
    reader.close()
    again = getattr(selector, "second_passes", 0)
    computed = shard.rescored / matches
    share = shard.rescored / (arguments.steps * tokens * d_sae)
    return (
        f"| {rule} | {matches:,} | {differing} | {steps_differing} | {furthest:.0f} | {computed:.2f} | {share:.2%} "
        f"| {again} | {loss:.4f} |"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--hook", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--d_sae", type=int, default=16384)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch_tokens", type=int, default=2048)
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    arguments = parser.parse_args()
    print(f"{arguments.steps} steps of {arguments.batch_tokens} tokens, d_sae {arguments.d_sae}, k {arguments.k}\n")
    print(
        "| rule | matches | other than dense fp32 | in steps | furthest from the cut, spacings | computed in fp32 "
        "per match | of all scores | second passes | loss at the end |"
    )
    print("|---" * 9 + "|")
    for rule in arguments.rules:
        print(_compare(rule, arguments), flush=True)


if __name__ == "__main__":
    main()
