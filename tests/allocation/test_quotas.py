"""Quotas sum to the budget, no feature is owed two matches with one token, and credit pays what is owed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import QuotaCredit, uniform_quotas, zipf_quotas
from distsae.errors import WrongInput

from .samples import modest


@st.composite
def _quotas(draw):
    d_sae = draw(st.integers(1, 60))
    k = draw(st.integers(1, d_sae))
    s, q = draw(st.floats(0, 3)), draw(st.floats(-0.9, 50))
    rank = torch.tensor(draw(st.permutations(range(1, d_sae + 1))))
    return zipf_quotas(d_sae, k, s, q, rank), k, s, q, rank


@modest
@given(_quotas())
def test_zipf_quotas_sum_to_k_and_stop_at_one_match_per_token(drawn):
    quotas, k, s, q, rank = drawn
    assert quotas.sum().item() == pytest.approx(k, rel=1e-12)
    assert quotas.max().item() <= 1
    by_rank = quotas[rank.argsort()]
    assert (by_rank.diff() <= 0).all()  # a denser feature is never owed less
    free = by_rank < 1
    law = (torch.arange(1, len(quotas) + 1).double() + q) ** -s
    ratio = by_rank[free] / law[free]  # below the cap the law's proportions hold
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio) if len(ratio) else ratio, rtol=1e-9, atol=0)


def test_uniform_quotas_and_the_zipf_law_without_slope():
    assert torch.equal(uniform_quotas(8, 2), torch.full((8,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(zipf_quotas(8, 2, s=0), uniform_quotas(8, 2))
    torch.testing.assert_close(
        zipf_quotas(3, 1, s=1, rank=torch.tensor([3, 1, 2])), torch.tensor([2, 6, 3], dtype=torch.float64) / 11
    )
    assert zipf_quotas(5, 5, s=2).tolist() == [1.0] * 5


@modest
@given(_quotas(), st.integers(1, 40), st.integers(1, 60))
def test_every_batch_pays_exactly_the_budget_and_everyone_gets_a_share(drawn, tokens, batches):
    quotas, k = drawn[:2]
    credit = QuotaCredit(quotas)
    paid = torch.zeros(len(quotas), dtype=torch.long)
    for _ in range(batches):
        whole = credit.pay(tokens)
        assert whole.dtype == torch.int64
        assert int(whole.sum()) == k * tokens
        assert int(whole.min()) >= 0
        assert int(whole.max()) <= tokens
        paid += whole
    owed = quotas * tokens * batches
    assert (paid - owed).abs().max() < 1 + 1e-9


def test_a_wide_dictionary_with_shares_far_below_a_match():
    """Every feature is served within the time its share needs, though a batch owes it a hundredth of a match."""
    quotas = zipf_quotas(5000, 8, s=1.0, q=50)
    credit, paid = QuotaCredit(quotas), torch.zeros(5000, dtype=torch.long)
    for _ in range(400):
        whole = credit.pay(64)
        assert int(whole.sum()) == 8 * 64
        paid += whole
    assert (paid - quotas * 64 * 400).abs().max() < 1
    assert (paid > 0).all()


def test_credit_is_state():
    """A credit restored from its two tensors goes on as the first one does."""
    quotas = zipf_quotas(50, 4, s=1.2)
    straight, stopped = QuotaCredit(quotas), QuotaCredit(quotas)
    for _ in range(7):
        straight.pay(8)
        stopped.pay(8)
    resumed = QuotaCredit(torch.zeros(50, dtype=torch.float64))
    resumed.quota_per_token.copy_(stopped.quota_per_token)
    resumed.credit.copy_(stopped.credit)
    for _ in range(7):
        assert torch.equal(straight.pay(8), resumed.pay(8))


def test_wrong_input_is_named():
    for quotas in (uniform_quotas, zipf_quotas):
        with pytest.raises(WrongInput, match=r"`k` \(=9\) must be positive and at most `d_sae` \(=8\)"):
            quotas(8, 9)
    with pytest.raises(WrongInput, match=r"`s` \(=-1\)"):
        zipf_quotas(8, 2, s=-1)
    with pytest.raises(WrongInput, match=r"`q` \(=-1\)"):
        zipf_quotas(8, 2, q=-1)
