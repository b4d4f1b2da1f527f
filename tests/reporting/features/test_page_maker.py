"""Whole pages against dense activations, plain matrices and Python's sort; ties are everywhere."""

import numpy as np
import pytest
import torch

from distsae.language_model import OutputHead
from distsae.reporting.features.activation_histogram import BINS
from distsae.reporting.features.config import FeaturesConfig
from distsae.reporting.features.inputs import FeatureInputs
from distsae.reporting.features.neighbours import LEAST_TOGETHER
from distsae.reporting.features.page_maker import OVERSAMPLED, PageMaker, spread
from distsae.reporting.features.part_pass import PassSettings, part_result
from distsae.reporting.features.plan import parts_of
from distsae.store import UnitContexts
from distsae.text import TokenText
from tests.reporting.features.dense import D_SAE, HOOK, Dense, whole_sae, whole_store

CONFIG = FeaturesConfig(
    run="", store="", top_contexts=3, sampled_contexts=2, tokens_before=2, tokens_after=1, tokens=3, neighbours=4,
    correlation_rows=100, format="saedashboard",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    store, sae = whole_store(folder / "store"), whole_sae()
    parts = parts_of(store, "train", 200, 40)
    settings = PassSettings(
        hook=HOOK, top_contexts=3, sampled_contexts=2 * OVERSAMPLED, correlation_contexts=-(-100 // 8)
    )
    paths = []
    for part in parts:
        paths.append(folder / str(part.number))
        part_result(sae, store, UnitContexts.read(store, part.unit), part, settings).save(paths[-1])
    head = OutputHead(gain=torch.ones(6), centres=False, unembedding=torch.randn(30, 6))
    inputs = FeatureInputs(
        sae_path=folder, sae=sae, store=store, parts=parts, text=TokenText(None), vocabulary=25, head=head
    )
    maker = PageMaker(inputs, CONFIG, paths)
    pages = [*maker.pages(0, 64), *maker.pages(64, 128), *maker.pages(128, D_SAE)]
    return pages, Dense(store, sae, "train", 200), sae, head


def test_densities_and_histograms(made):
    pages, dense, _, _ = made
    assert [page.feature for page in pages] == list(range(D_SAE))
    for page in pages:
        acts = dense.acts[..., page.feature]
        assert (page.rows, page.count, page.density) == (dense.rows, (acts > 0).sum(), (acts > 0).sum() / dense.rows)
        assert page.mean == (acts.astype(np.float64).sum() / max(page.count, 1))
        assert page.largest == acts.max()
        assert dict(page.bins) == dense.histogram(page.feature)
        assert all(0 <= number < BINS for number, _ in page.bins)
        assert [number for number, _ in page.bins] == sorted(dict(page.bins))


def _expected(dense, feature, context):
    acts = dense.acts[context, :, feature]
    peak = int(acts.argmax())
    first, stop = max(peak - 2, 0), peak + 2
    return {
        "context_id": dense.context_id[context],
        "document_id": dense.documents[context, peak],
        "first": first,
        "position": peak,
        "token_ids": tuple(dense.tokens[context, first:stop].tolist()),
        "acts": tuple(acts[first:stop].tolist()),
    }


def test_top_contexts(made):
    pages, dense, _, _ = made
    for page in pages:
        expected = [_expected(dense, page.feature, context) for context in dense.top(page.feature, 3)]
        assert [vars(shown) for shown in page.top] == expected


def test_sampled_contexts_are_spread_over_the_range(made):
    pages, dense, _, _ = made
    for page in pages:
        sample = dense.sample(page.feature, 2 * OVERSAMPLED)
        ranked = [context for context in dense.top(page.feature, 10**6) if context in sample]
        if len(ranked) > 2:
            ranked = [ranked[len(ranked) // 4], ranked[3 * len(ranked) // 4]]
        assert [vars(shown) for shown in page.sampled] == [_expected(dense, page.feature, one) for one in ranked]


def test_related_features(made):
    pages, dense, sae, _ = made
    together = dense.together(104)
    n, counts = int(dense.kept[:13].sum()), np.diag(together)
    units = torch.nn.functional.normalize(sae.W_dec.detach(), dim=1).double()
    for page in pages:
        f = page.feature
        cosine = (units @ units[f]).numpy()
        cosine[f] = -2
        np.testing.assert_allclose([value for _, value in page.nearest], -np.sort(-cosine)[:4], atol=1e-6)
        np.testing.assert_allclose(
            [value for _, value in page.nearest], cosine[[g for g, _ in page.nearest]], atol=1e-6
        )
        top = n * together[f] - counts[f] * counts
        below = counts[f] * (n - counts[f]) * counts.astype(float) * (n - counts)
        value = np.where(below > 0, top / np.sqrt(np.where(below > 0, below, 1)), 0)
        usable = [g for g in range(D_SAE) if g != f and together[f, g] >= LEAST_TOGETHER and value[g] > 0]
        expected = sorted(usable, key=lambda g: (-value[g], g))[:4]
        assert [(g, rows) for g, _, rows in page.correlated] == [(g, together[f, g]) for g in expected]
        np.testing.assert_allclose([corr for _, corr, _ in page.correlated], value[expected], rtol=1e-12)


def test_promoted_tokens(made):
    pages, _, sae, head = made
    effects = (sae.W_dec.detach() @ head.unembedding.T)[:, :25].numpy()
    for page in pages:
        assert [token for token, _ in page.promoted] == np.argsort(-effects[page.feature], kind="stable")[:3].tolist()
        assert [token for token, _ in page.suppressed] == np.argsort(effects[page.feature], kind="stable")[:3].tolist()
        assert sum(page.logit_heights) == 25  # a format asks for it


def test_spread():
    assert spread(3, 5).tolist() == [0, 1, 2]
    assert spread(8, 2).tolist() == [2, 6]
    assert spread(9, 3).tolist() == [1, 4, 7]
    assert spread(4, 0).tolist() == []
