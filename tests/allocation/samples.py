"""Score matrices of every awkward kind, offered in chunks of every size, for property tests of the selectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from distsae.allocation import Matches, MutualSelector, Placement, Scores, Selector, TokenSelector, select

KINDS = ("normal", "tied", "skewed", "sparse", "equal", "zeros", "negative", "bfloat16", "signed zeros", "subnormal")

modest = settings(max_examples=80, deadline=None)


def scores(kind: str, tokens: int, features: int, generator: torch.Generator) -> Tensor:
    """Returns pre-activations of one kind, fp32 `[tokens, features]`."""
    x = torch.randn(tokens, features, generator=generator)
    match kind:
        case "tied":
            return (x * 2).round() / 2
        case "skewed":  # a few features and a few tokens have far larger scores than the others
            loud_features = (torch.rand(features, generator=generator) < 0.2) * 999.0 + 1
            loud_tokens = (torch.rand(tokens, 1, generator=generator) < 0.2) * 99.0 + 1
            return x * loud_features * loud_tokens
        case "sparse":
            return x - 2
        case "equal":
            return torch.full_like(x, 0.37)
        case "zeros":
            return torch.zeros_like(x)
        case "negative":
            return -x.abs() - 1
        case "bfloat16":
            return x.bfloat16().float()
        case "signed zeros":
            return torch.where(torch.rand(tokens, features, generator=generator) < 0.5, -0.0, x.round())
        case "subnormal":
            return x * 1e-40
        case _:
            return x


@dataclass(frozen=True)
class Case:
    """Consecutive batches of one selector.

    Args:
        batches: pre-activations of each batch, fp32 `[tokens, features]`.
        chunk: number of features in a chunk.
    """

    batches: tuple[Tensor, ...]
    chunk: int

    @property
    def tokens(self) -> int:
        return self.batches[0].shape[0]

    @property
    def features(self) -> int:
        return self.batches[0].shape[1]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draws one to four batches of mixed kinds, whose scale may jump by 100 from one to the next."""
    tokens = draw(st.integers(1, 12))
    features = draw(st.integers(1, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    scales = draw(st.lists(st.sampled_from([1.0, 100.0, 0.01]), min_size=len(kinds), max_size=len(kinds)))
    batches = tuple(
        scores(kind, tokens, features, generator) * scale for kind, scale in zip(kinds, scales, strict=True)
    )
    return Case(batches, draw(st.integers(1, features)))


def chunks(batch: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    """Yields the chunks of a `[tokens, features]` batch as the encoder does: feature-major, through one buffer."""
    columns = batch.t().contiguous()
    buffer = torch.empty(size, batch.shape[0], dtype=batch.dtype, device=batch.device)
    for first in range(0, columns.shape[0], size):
        part = buffer[: min(size, columns.shape[0] - first)]
        part.copy_(columns[first : first + size])
        yield first, part
        part.fill_(torch.nan)  # shows if a selector has kept a view of the buffer


def run(selectors: Sequence[Selector], batch: Tensor, chunk: int) -> list[Matches]:
    """Selects from one batch on one process."""
    return select(selectors, lambda: chunks(batch, chunk), Placement.solo(batch.shape[1]), batch.shape[0])


class Watched:
    """A selector that notes how many candidates it holds after each chunk.

    Args:
        selector: the selector, of a rule that keeps candidates.

    Attributes:
        held: number of candidates after each chunk.
    """

    def __init__(self, selector: MutualSelector | TokenSelector) -> None:
        self.selector = selector
        self.held: list[int] = []

    def start(self, placement: Placement, tokens: int) -> None:
        self.selector.start(placement, tokens)

    def offer(self, first_feature: int, scores: Scores) -> None:
        self.selector.offer(first_feature, scores)
        self.held.append(self.selector._held)

    def tally(self) -> Tensor | None:
        return self.selector.tally()

    def resolve(self, told: Tensor) -> Matches | None:
        return self.selector.resolve(told)


def assert_same(found: Matches, expected: Matches) -> None:
    """Checks that a selector's matches (by feature) are those of a plain statement (by token), bit for bit."""
    by_feature = found.by_feature()
    by_token = found.by_token()
    for name in ("token", "feature", "score"):
        assert torch.equal(getattr(found, name), getattr(by_feature, name)), "not sorted by feature, then token"
        assert torch.equal(getattr(by_token, name), getattr(expected, name))
