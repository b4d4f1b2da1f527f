"""The step on every mesh, in fp64: losses, matches and all gradients equal those of dense autograd."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, Matches, MutualSelector
from distsae.collective import Collective, Solo
from distsae.losses import AuxName, FiringStatistics, Underused
from distsae.parallel import Mesh, MeshConfig, build_mesh
from distsae.training import BatchOutcome, Selectors, forward_backward
from tests.distributed.processes import run_on_mesh
from tests.training.dense_step import ALPHA, K_AUX, DenseStep, dense_step
from tests.training.samples import (
    D_SAE,
    RULES,
    TOKENS,
    activations,
    credit,
    dense_gradients,
    mean_and_variance,
    moved_shard_on,
    selector_on,
)

SHAPES = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3))
DEAD, RARE = torch.arange(D_SAE) % 7 == 2, torch.arange(D_SAE) % 20 == 5


def _underused(features: range, group: Collective, aux: AuxName) -> Underused:
    """Returns the set U of a run in which some features are dead and some far rarer than their rank suggests."""
    density = (torch.arange(D_SAE, dtype=torch.float64) + 10) ** -0.8
    density[RARE] /= 100
    density[DEAD] = 0
    part = slice(features.start, features.stop)
    statistics = FiringStatistics(len(features), window_tokens=1000, dead_after_tokens=100)
    statistics.matches.copy_(density[part] * 1000)
    statistics.tokens.fill_(1000)
    statistics.tokens_since_fired.copy_(DEAD[part] * 100)
    return Underused.measure(statistics, aux, 0.2, group)


@dataclass
class Found:
    """The results of a step on one rank.

    Args:
        matches: this rank's matches, in global indices.
        loss: main loss.
        aux_loss: auxiliary loss.
        gradients: gradients of the global batch, of all features.
        main_gradients: the same without the auxiliary loss.
    """

    matches: Matches
    loss: float
    aux_loss: float
    gradients: dict[str, Tensor]
    main_gradients: dict[str, Tensor]


def _step(mesh: Mesh, rule: str, aux: AuxName) -> Found:
    """Does a step with the auxiliary loss and, for comparison, one without."""
    shard = moved_shard_on(mesh)
    features = mesh.features(D_SAE)
    (mean, variance) = mean_and_variance()
    share = TOKENS // mesh.data.size
    first = mesh.data.rank * share
    x = activations(0)[first : first + share]
    selector = selector_on(mesh, rule)
    if isinstance(selector, FeatureSelector):
        selector.grant(credit().pay(TOKENS)[features.start : features.stop])
    underused = _underused(features, mesh.feature, aux)
    auxiliary = MutualSelector(K_AUX, underused.members) if underused.share else None

    def gradients(outcome: BatchOutcome) -> dict[str, Tensor]:
        """Returns the gradients of the global batch, of all features, after comparing two ways to sum them."""
        summed = {n: mesh.data.sum(t) for n, t in dense_gradients(outcome.gradients, shard, mesh).items()}
        gathered = dense_gradients(outcome.gradients.gathered(mesh.data), shard, mesh)
        _equal(gathered, summed)
        return {n: t if n == "b_dec" else torch.cat(mesh.feature.gather(t)) for n, t in gathered.items()}

    main = forward_backward(shard, x, mesh, Selectors(selector), mean, variance, ALPHA)
    outcome = forward_backward(shard, x, mesh, Selectors(selector, auxiliary), mean, variance, ALPHA)
    found = outcome.matches
    matches = Matches(found.token + first, found.feature + features.start, found.score)
    return Found(matches, outcome.loss, outcome.aux_loss, gradients(outcome), gradients(main))


def _expected(rule: str, aux: AuxName) -> tuple[DenseStep, Tensor]:
    alone = build_mesh(MeshConfig(), 1, "cpu")
    members = _underused(range(D_SAE), Solo(), aux).members
    return dense_step(moved_shard_on(alone), activations(0), rule, members if members.any() else None), members


def _equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys() == {"W_enc", "W_dec", "b_enc", "b_dec"}
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-10, atol=1e-13, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("aux", ["none", "aux_k", "aux_zipf"])
def test_losses_and_gradients_are_those_of_dense_autograd(rule, aux):
    expected, members = _expected(rule, aux)
    assert torch.equal(members, {"none": DEAD & False, "aux_k": DEAD, "aux_zipf": DEAD | RARE}[aux])
    for shape in SHAPES:
        ranks = run_on_mesh(_step, shape, rule, aux)
        together = Matches(*(torch.cat([getattr(rank.matches, name) for rank in ranks]) for name in _FIELDS)).by_token()
        assert torch.equal(together.token, expected.matches.token), shape
        assert torch.equal(together.feature, expected.matches.feature), shape
        for rank in ranks:
            assert rank.loss == pytest.approx(expected.loss, rel=1e-12), shape
            assert rank.aux_loss == pytest.approx(expected.aux_loss, rel=1e-12), shape
            _equal(rank.gradients, expected.gradients)
    assert all(tensor.abs().max() > 1e-6 for tensor in expected.gradients.values())


_FIELDS = ("token", "feature", "score")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("aux", ["aux_k", "aux_zipf"])
def test_auxiliary_gradients_reach_encoder_and_decoder_rows_of_every_feature_that_it_selects(rule, aux):
    """In another library a fused encoder drops gradients, so that its auxiliary loss trains no encoder row."""
    expected, members = _expected(rule, aux)
    assert expected.auxiliary is not None
    assert expected.aux_loss > 0
    trained, main = (
        torch.bincount(found.feature, minlength=D_SAE) > 0 for found in (expected.auxiliary, expected.matches)
    )
    assert not (trained & ~members).any()
    assert (trained & main).any()  # features of U may have main matches too
    for shape in SHAPES:
        for rank in run_on_mesh(_step, shape, rule, aux):
            gain = {name: rank.gradients[name] - rank.main_gradients[name] for name in rank.gradients}
            for name in ("W_enc", "W_dec"):
                rows = gain[name].norm(dim=1)
                assert (rows[trained] > 1e-5).all(), (shape, name)
                assert (rows[~trained] < 1e-14).all(), (shape, name)  # one all-reduce sums both reconstructions
            assert (gain["b_enc"][trained].abs() > 1e-7).all(), shape
            torch.testing.assert_close(gain["b_dec"], expected.aux_gradients["b_dec"], rtol=1e-9, atol=1e-12)
            assert gain["b_dec"].norm() > 1e-5  # through the encoder alone: this loss has no decoder bias
