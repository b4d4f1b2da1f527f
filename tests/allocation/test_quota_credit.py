"""Credit is paid out exactly, on any number of ranks: every bit as a plain statement, which sorts everything, says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.allocation import QuotaCredit, zipf_quotas
from distsae.errors import WrongInput
from tests.allocation.samples import modest
from tests.distributed.processes import run_on_mesh

MATCH = 1 << 32


class PlainCredit:
    """The same rule without tricks: list every claim of every feature, sort, pay the first `budget`."""

    def __init__(self, quota_per_token, k):
        self.shares, self.k = quota_per_token.tolist(), k
        self.credit = [0] * len(self.shares)

    def pay(self, tokens):
        self.credit = [c + round(share * (tokens * 2.0**32)) for c, share in zip(self.credit, self.shares, strict=True)]
        claims = [(-(c - i * MATCH), j) for j, c in enumerate(self.credit) for i in range(tokens)]
        paid = [0] * len(self.credit)
        for _, feature in sorted(claims)[: round(self.k * tokens)]:
            paid[feature] += 1
        self.credit = [c - number * MATCH for c, number in zip(self.credit, paid, strict=True)]
        return torch.tensor(paid)


@st.composite
def _purses(draw):
    """Shares of every awkward kind, their sum, and the tokens of consecutive batches."""
    d_sae = draw(st.integers(4, 40))
    kind = draw(st.sampled_from(["zipf", "tied", "equal", "0 and 1", "quantised", "one takes all"]))
    if kind == "zipf":
        quotas = zipf_quotas(d_sae, draw(st.integers(1, d_sae)), draw(st.floats(0, 3)), draw(st.floats(-0.9, 50)))
    elif kind == "tied":
        rank = torch.tensor(draw(st.lists(st.sampled_from([1.5, 4.0, 9.0]), min_size=d_sae, max_size=d_sae)))
        quotas = zipf_quotas(d_sae, draw(st.integers(1, d_sae)), 1.0, 0.0, rank)
    elif kind == "equal":
        quotas = torch.full((d_sae,), draw(st.sampled_from([1 / d_sae, 0.01, 0.5, 1 / 3])), dtype=torch.float64)
    elif kind == "one takes all":
        quotas = torch.eye(d_sae, dtype=torch.float64)[draw(st.integers(0, d_sae - 1))]
    else:
        values = [0.0, 1.0] if kind == "0 and 1" else [0.0, 0.25, 0.5, 1.0]
        drawn = draw(st.lists(st.sampled_from(values), min_size=d_sae, max_size=d_sae))
        quotas = torch.tensor(drawn, dtype=torch.float64)
    return quotas, float(quotas.sum()), draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))


@modest
@given(_purses())
def test_equals_the_plain_statement(drawn):
    quotas, k, batches = drawn
    ours, plain = QuotaCredit(quotas, k), PlainCredit(quotas, k)
    for tokens in batches:
        assert torch.equal(ours.pay(tokens), plain.pay(tokens))
        assert ours.credit.tolist() == plain.credit


@modest
@given(_purses(), st.integers(0, 1 << 20), st.floats(0, 1))
def test_equals_the_plain_statement_from_any_credit_and_for_any_budget(drawn, seed, share):
    """As after new quotas: credits far from what the shares would have left, and a `k` that is not their sum."""
    quotas, _, batches = drawn
    k = share * len(quotas)
    ours, plain = QuotaCredit(quotas, k), PlainCredit(quotas, k)
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** (3 * torch.rand(1, generator=generator))
    ours.credit.copy_((torch.randn(len(quotas), generator=generator) * scale * MATCH).long())
    plain.credit = ours.credit.tolist()
    for tokens in batches:
        assert torch.equal(ours.pay(tokens), plain.pay(tokens))
        assert ours.credit.tolist() == plain.credit


def _pay(mesh, cases):
    found = []
    for quotas, k, batches in cases:
        features = mesh.features(len(quotas))
        credit = QuotaCredit(quotas[features.start : features.stop], k, mesh.feature)
        found.append([credit.pay(tokens) for tokens in batches] + [credit.credit])
    return found


@pytest.mark.parametrize("shape", [(1, 2), (1, 3), (2, 2), (1, 4)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
@settings(max_examples=4, deadline=None)
@given(cases=st.lists(_purses(), min_size=25, max_size=25))
def test_any_number_of_ranks_with_even_and_uneven_shards_pays_the_same(shape, cases):
    ranks = run_on_mesh(_pay, shape, cases)
    for place, (quotas, k, batches) in enumerate(cases):
        plain = PlainCredit(quotas, k)
        expected = [plain.pay(tokens) for tokens in batches]
        for row in range(shape[0]):
            parts = [rank[place] for rank in ranks[row * shape[1] : (row + 1) * shape[1]]]
            together = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
            for whole, right in zip(together[:-1], expected, strict=True):
                assert torch.equal(whole, right)
            assert together[-1].tolist() == plain.credit


def test_wide_dictionaries_pay_the_same_on_any_number_of_ranks():
    """More remainders than are gathered, and more of them tied than one rank holds."""
    wide = [
        torch.full((30_001,), 8 / 30_001),
        zipf_quotas(30_001, 8, s=1.0, q=30.0, rank=torch.randperm(30_001).add(1)),
    ]
    cases = [(quotas.double(), 8.0, [600, 1500, 601]) for quotas in wide]
    (alone,) = run_on_mesh(_pay, (1, 1), cases)
    for shape in ((1, 3), (2, 2)):
        ranks = run_on_mesh(_pay, shape, cases)
        for place, expected in enumerate(alone):
            for step, right in enumerate(expected):
                assert torch.equal(torch.cat([rank[place][step] for rank in ranks[: shape[1]]]), right)


@modest
@given(_purses(), st.integers(1, 40), st.integers(1, 60))
def test_every_batch_pays_exactly_the_budget_and_everyone_gets_a_share(drawn, tokens, batches):
    quotas, k, _ = drawn
    credit = QuotaCredit(quotas, k)
    paid = torch.zeros(len(quotas), dtype=torch.long)
    for number in range(1, batches + 1):
        whole = credit.pay(tokens)
        assert whole.dtype == torch.int64
        assert int(whole.sum()) == round(k * tokens)
        assert int(whole.min()) >= 0
        assert int(whole.max()) <= tokens
        paid += whole
        # Serving the largest claim first keeps everyone within two matches of what is due, and nearly all within one.
        rounding = number * abs(k * tokens - round(k * tokens))  # what whole budgets have paid too much or too little
        assert (paid - quotas * tokens * number).abs().max() < 2 + rounding


def test_a_wide_dictionary_with_shares_far_below_a_match():
    """Every feature is served within the time its share needs, though a batch owes it a hundredth of a match."""
    quotas = zipf_quotas(5000, 8, s=1.0, q=50)
    credit, paid = QuotaCredit(quotas, 8), torch.zeros(5000, dtype=torch.long)
    for _ in range(400):
        whole = credit.pay(64)
        assert int(whole.sum()) == 8 * 64
        paid += whole
    assert (paid - quotas * 64 * 400).abs().max() < 1
    assert (paid > 0).all()


def test_more_features_than_a_block_holds():
    quotas = zipf_quotas(200_001, 16, s=1.0, q=100, rank=torch.randperm(200_001).add(1))
    credit = QuotaCredit(quotas, 16)
    for tokens in (1000, 3, 1000):
        before = credit.credit + (quotas * (tokens * float(MATCH))).round().long()
        paid = credit.pay(tokens)
        assert int(paid.sum()) == 16 * tokens
        served = before - (paid - 1) * MATCH  # the last claim that each feature was paid
        assert served[paid > 0].min() >= (before - paid * MATCH).max()  # none was larger than those paid


def test_equal_shares_are_served_in_the_order_of_the_features():
    credit = QuotaCredit(torch.full((6,), 1 / 6, dtype=torch.float64), 1)
    assert credit.pay(4).tolist() == [1, 1, 1, 1, 0, 0]
    assert credit.pay(4).tolist() == [1, 1, 0, 0, 1, 1]
    assert credit.pay(4).tolist() == [0, 0, 1, 1, 1, 1]


def test_nothing_drifts():
    """Shares of a third have no exact binary form; after many batches everyone still has had a third."""
    credit = QuotaCredit(torch.full((3,), 1 / 3, dtype=torch.float64), 1)
    paid = sum(credit.pay(1) for _ in range(3000))
    assert paid.tolist() == [1000] * 3
    assert credit.credit.abs().max() < MATCH


def test_credit_is_state():
    """A credit restored from its two tensors goes on as the first one does."""
    quotas = zipf_quotas(50, 4, s=1.2)
    straight, stopped = QuotaCredit(quotas, 4), QuotaCredit(quotas, 4)
    for _ in range(7):
        straight.pay(8)
        stopped.pay(8)
    resumed = QuotaCredit(torch.zeros(50, dtype=torch.float64), 4)
    resumed.quota_per_token.copy_(stopped.quota_per_token)
    resumed.credit.copy_(stopped.credit)
    for _ in range(7):
        assert torch.equal(straight.pay(8), resumed.pay(8))


def test_the_shares_that_were_given_are_not_the_live_ones():
    quotas = zipf_quotas(50, 4)
    credit = QuotaCredit(quotas, 4)
    credit.quota_per_token.zero_()
    assert float(quotas.sum()) == pytest.approx(4)


def test_more_matches_than_features_can_have():
    with pytest.raises(WrongInput, match=r"`k` \(=3\) must be at most the number of features"):
        QuotaCredit(torch.ones(2, dtype=torch.float64), 3).pay(5)
