"""Credit is paid out exactly, on any number of ranks: equal bit for bit to a plain statement that sorts all claims."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.allocation import QuotaCredit, zipf_quotas
from distsae.errors import WrongInput
from tests.allocation.samples import modest
from tests.distributed.processes import run_on_mesh
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda

MATCH = 1 << 32


class PlainCredit:
    """The same rule without tricks: list every claim of every feature, sort, pay the first `budget`."""

    def __init__(self, quota_per_token, k):
        self.shares = quota_per_token.tolist()
        self.k = k
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
def _quotas_and_batches(draw):
    """Draws quotas of an awkward kind, their sum, and the numbers of tokens of consecutive batches."""
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
@given(_quotas_and_batches())
def test_equals_the_plain_statement(drawn):
    quotas, k, batches = drawn
    credit = QuotaCredit(quotas, k)
    plain = PlainCredit(quotas, k)
    for tokens in batches:
        assert torch.equal(credit.pay(tokens), plain.pay(tokens))
        assert credit.credit.tolist() == plain.credit


@modest
@given(_quotas_and_batches(), st.integers(0, 1 << 20), st.floats(0, 1))
def test_equals_the_plain_statement_from_any_credit_and_for_any_budget(drawn, seed, share):
    """As after new quotas: credits far from those that the quotas would have left, and a `k` that is not their sum."""
    quotas, _, batches = drawn
    k = share * len(quotas)
    credit = QuotaCredit(quotas, k)
    plain = PlainCredit(quotas, k)
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** (3 * torch.rand(1, generator=generator))
    credit.credit.copy_((torch.randn(len(quotas), generator=generator) * scale * MATCH).long())
    plain.credit = credit.credit.tolist()
    for tokens in batches:
        assert torch.equal(credit.pay(tokens), plain.pay(tokens))
        assert credit.credit.tolist() == plain.credit


@settings(max_examples=40, deadline=None)
@given(_quotas_and_batches(), st.integers(0, 1 << 20), st.sampled_from([0.0, 0.3, 3.0]))
def test_paying_at_once_on_a_gpu_pays_the_same_without_waiting(drawn, seed, scale):
    """Credits that are small leave no doubt; larger ones may, and are then corrected."""
    quotas, k, batches = drawn
    noise = (torch.randn(len(quotas), generator=torch.Generator().manual_seed(seed)) * scale * MATCH).long()
    plain = PlainCredit(quotas, k)
    plain.credit = noise.tolist()
    with pretended_cuda():
        credit = QuotaCredit(quotas.to(CUDA), k)
        credit.credit.copy_(noise.to(CUDA))
        for tokens in batches:
            LEDGER.clear()
            payment = credit.pay_at_once(tokens)
            assert LEDGER.waits.total() == 0
            paid = credit.corrected(payment) if bool(payment.doubt) else payment.quotas
            assert torch.equal(paid.cpu(), plain.pay(tokens))
            assert credit.credit.cpu().tolist() == plain.credit


def test_paying_at_once_leaves_no_doubt_in_ordinary_batches():
    on_cpu = QuotaCredit(zipf_quotas(200, 4.0, s=1.0, q=2.0), 4.0)
    assert on_cpu.pay_at_once(64).doubt is None
    with pretended_cuda():
        credit = QuotaCredit(zipf_quotas(200, 4.0, s=1.0, q=2.0).to(CUDA), 4.0)
        assert not any(bool(credit.pay_at_once(64).doubt) for _ in range(8))


def _pay(mesh, cases):
    found = []
    for quotas, k, batches in cases:
        features = mesh.features(len(quotas))
        credit = QuotaCredit(quotas[features.start : features.stop], k, mesh.feature)
        found.append([credit.pay(tokens) for tokens in batches] + [credit.credit])
    return found


@pytest.mark.parametrize("shape", [(1, 2), (1, 3), (2, 2), (1, 4)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
@settings(max_examples=4, deadline=None)
@given(cases=st.lists(_quotas_and_batches(), min_size=25, max_size=25))
def test_any_number_of_ranks_with_even_and_uneven_shards_pays_the_same(shape, cases):
    ranks = run_on_mesh(_pay, shape, cases)
    for index, (quotas, k, batches) in enumerate(cases):
        plain = PlainCredit(quotas, k)
        expected = [plain.pay(tokens) for tokens in batches]
        for data_rank in range(shape[0]):
            parts = [answer[index] for answer in ranks[data_rank * shape[1] : (data_rank + 1) * shape[1]]]
            *paid, credit = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
            for of_batch, expected_of_batch in zip(paid, expected, strict=True):
                assert torch.equal(of_batch, expected_of_batch)
            assert credit.tolist() == plain.credit


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
        for index, expected in enumerate(alone):
            for step, expected_of_step in enumerate(expected):
                found = torch.cat([answer[index][step] for answer in ranks[: shape[1]]])
                assert torch.equal(found, expected_of_step)


@modest
@given(_quotas_and_batches(), st.integers(1, 40), st.integers(1, 60))
def test_every_batch_pays_exactly_the_budget_and_every_feature_gets_its_share(drawn, tokens, batches):
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
        # Paying the largest claim first keeps every feature within two matches of its due, and nearly all within one.
        rounding = number * abs(k * tokens - round(k * tokens))  # that whole budgets have paid too much or too little
        assert (paid - quotas * tokens * number).abs().max() < 2 + rounding


def test_a_wide_dictionary_with_shares_far_below_a_match():
    """Every feature gets its matches in time, though a batch owes it a hundredth of a match."""
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
        last_paid = before - (paid - 1) * MATCH  # smallest paid claim of each feature
        first_unpaid = before - paid * MATCH
        assert last_paid[paid > 0].min() >= first_unpaid.max()


def test_equal_shares_are_paid_in_the_order_of_the_features():
    credit = QuotaCredit(torch.full((6,), 1 / 6, dtype=torch.float64), 1)
    assert credit.pay(4).tolist() == [1, 1, 1, 1, 0, 0]
    assert credit.pay(4).tolist() == [1, 1, 0, 0, 1, 1]
    assert credit.pay(4).tolist() == [0, 0, 1, 1, 1, 1]


def test_nothing_drifts():
    """A share of a third has no exact binary form; after many batches every feature still has had a third."""
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


def test_more_matches_per_token_than_features_are_refused():
    with pytest.raises(WrongInput, match=r"`k` \(=3\) must be at most the number of features"):
        QuotaCredit(torch.ones(2, dtype=torch.float64), 3).pay(5)
