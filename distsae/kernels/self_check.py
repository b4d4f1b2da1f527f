"""A check of kernels on the device that they are to run on, where a driver or a compiler may be at fault, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from subprocess import SubprocessError
from typing import get_args

import torch
from torch import Tensor

from distsae.allocation import Matches
from distsae.errors import WrongInput
from distsae.kernels.cpu import row_starts
from distsae.kernels.kept_moments import KeptMoments
from distsae.kernels.moments import MomentsName, moments_of
from distsae.kernels.operations import AdamStep, Kernels, RowTerm, UpdatedRows
from distsae.kernels.plain_update import plain_update
from distsae.kernels.prefilter import PrefilterRows, plain_scores_at
from distsae.kernels.reference import REFERENCE
from distsae.kernels.upper_bounds import plain_places_above

__all__ = ["BUILD_FAILURES", "KernelsDoNotRun", "refuse_if_wrong"]

_TOKENS = 9
_FEATURES = 13
_D_IN = 300
_MATCHES = 40
_MANY = 300
"""Matches of one row that are more than a program may sum alone."""

_FLIPPED = 0.02
"""Largest share of rounded moments that a last bit may have sent another way."""

_DEEP = 4096
"""Width at which a library is likely to split a product into partial sums."""

BUILD_FAILURES = (
    *(RuntimeError, OSError, ValueError, AssertionError, ImportError),
    *(AttributeError, LookupError, SubprocessError),
)
"""What a compiler of kernels and a driver raise where kernels cannot be built or started: Triton's are
`CalledProcessError` if the C compiler fails, `AssertionError` without libcuda, and many others."""

_LONGEST = 200
"""Most characters of an error of a compiler that are shown."""


class KernelsDoNotRun(WrongInput):
    """Kernels cannot be built or started on a device; other kernels may serve there."""

    def __init__(self, name: str, device: torch.device, what: str, error: Exception) -> None:
        reason = " ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])[:_LONGEST]
        super().__init__(
            f"`kernels` (={name}) must compute on {device} what the reference computes; {what} gave {reason}; use "
            "`kernels` reference, or install what is missing: a C compiler, Python's headers (python3-dev), a driver"
        )


def refuse_if_wrong(
    kernels: Kernels, device: torch.device, failures: tuple[type[Exception], ...] = BUILD_FAILURES
) -> None:
    """Compares every operation with the reference, on a few numbers with ties and empty rows.

    Args:
        kernels: kernels to check.
        device: device to run them on.
        failures: exceptions that a compiler or a driver raises.

    Raises:
        KernelsDoNotRun: an operation fails; the text names it.
        WrongInput: an operation gives a different result; the text names it.
    """
    tried = "the device"
    try:
        for name, is_right in _checks(kernels, device):
            tried = name
            if not is_right():
                break
        else:
            return
    except torch.OutOfMemoryError:
        raise  # other kernels would have no more room
    except failures as error:
        raise KernelsDoNotRun(kernels.name, device, tried, error) from error
    raise WrongInput(
        f"`kernels` (={kernels.name}) must compute on {device} what the reference computes; {tried} gave a different "
        "result; use `kernels` reference"
    )


def _checks(kernels: Kernels, device: torch.device) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Yields the name of each operation and a function that returns whether its result is right."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    pair = torch.randperm(_TOKENS * _FEATURES, generator=generator)[:_MATCHES]
    token = pair // _FEATURES
    feature = pair % _FEATURES
    inner = (token > 0) & (feature % 5 > 0)  # rows without matches at either end and in between
    matches = Matches(token[inner].to(device), feature[inner].to(device), normal(int(inner.sum())).abs())
    by_token = matches.by_token()
    by_feature = matches.by_feature()
    rows = normal(_FEATURES, _D_IN)
    vectors = normal(_TOKENS, _D_IN)
    starts = row_starts(by_feature.feature, _FEATURES)
    uneven = torch.tensor([0, 1, _MANY, 0, 2, *[0] * (_FEATURES - 5)]).cumsum(0)
    many = int(uneven[-1])
    uneven_starts = torch.cat([uneven.new_zeros(1), uneven]).to(device)
    uneven_token = torch.randint(_TOKENS, (many,), generator=generator).to(device)
    left = normal(16, _DEEP).bfloat16()
    right = normal(16, _DEEP).bfloat16()
    scores = (2 * normal(24, 17)).round().bfloat16()
    scores[0, 0] = torch.nan

    def decode() -> bool:
        return _near(kernels.decode(by_token, rows, _TOKENS), REFERENCE.decode(by_token, rows, _TOKENS))

    def match_dots() -> bool:
        found = kernels.match_dots(by_feature.feature, by_feature.token, rows, vectors)
        some = kernels.match_dots(by_feature.feature[1::3], by_feature.token[1::3], rows, vectors)
        expected = REFERENCE.match_dots(by_feature.feature, by_feature.token, rows, vectors)
        return _near(found, expected) and torch.equal(some, found[1::3])

    def row_sums() -> bool:
        right = True
        for first, token, weight in (
            (starts, by_feature.token, by_feature.score),
            (uneven_starts, uneven_token, normal(many)),
        ):
            found = kernels.row_sums(first, token, weight, vectors)
            again = kernels.row_sums(first, token, weight, vectors)
            some = kernels.row_sums(first[4:9], token, weight, vectors)
            right = right and _near(found, REFERENCE.row_sums(first, token, weight, vectors))
            right = right and torch.equal(found, again) and torch.equal(some, found[4:8])
        return right

    def upper_scores() -> bool:
        out = torch.empty(16, 16, dtype=torch.bfloat16, device=device)
        kernels.upper_scores(left, right, out)
        exact = left.double() @ right.double().t()
        return bool(((out.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-3).all())

    def above() -> bool:
        bounds = [torch.ones(shape, device=device).bfloat16() for shape in ((1,), (17,), (24, 1))]
        return all(torch.equal(kernels.above(scores, bound), REFERENCE.above(scores, bound)) for bound in bounds)

    def adam() -> bool:
        found, expected = ([rows.clone(), rows.abs(), rows.abs()] for _ in range(2))
        for version, (parameter, mean, square) in ((kernels, found), (REFERENCE, expected)):
            version.adam([parameter], [rows.flip(0)], [mean], [square], AdamStep(3, 0.01, 0.9, 0.99, 1e-8))
        return all(_near(*pair) for pair in zip(found, expected, strict=True))

    def update_rows() -> bool:
        assert kernels.update_rows is not None
        term = RowTerm(starts, by_feature.token, by_feature.score, by_feature.score, vectors)
        more = RowTerm(uneven_starts, uneven_token, normal(many), normal(many), vectors)
        others = ([term, more], vectors, rows[:, 0])
        numbers = AdamStep(3, 0.01, 0.9, 0.99, 1e-8, decoder_rate=3.0)
        same = True
        for kind in get_args(MomentsName):
            found, expected = (_rows_to_update(rows, kind) for _ in range(2))
            energy = kernels.update_rows(*others, found, numbers, 0.5)
            same = same and _near(energy, plain_update(*others, expected, numbers, 0.5))
            for name in ("W_enc", "W_dec", "b_enc"):
                pairs = [getattr(rows, name) for rows in (found, expected)]
                same = same and _near(*(numbers for numbers, _ in pairs)) and _kept_alike(*(kept for _, kept in pairs))
            same = same and _bounded(found)
        return same

    def scores_at() -> bool:
        assert kernels.scores_at is not None
        flat = torch.cat([by_feature.feature * _TOKENS + by_feature.token, starts.new_full((3,), _FEATURES * _TOKENS)])
        for bound in (rows[:1, :1].abs(), rows[:, 1:2].abs()):
            operands = (flat, rows, rows[:, 0], vectors, bound)
            if not torch.equal(kernels.scores_at(*operands), plain_scores_at(kernels.match_dots, *operands)):
                return False
        return True

    def places_above() -> bool:
        assert kernels.places_above is not None
        whole = normal(_FEATURES, 80).round().bfloat16()  # whole numbers: exact sums, and many ties
        others = normal(70, 80).round().bfloat16()
        for bound in (torch.full((1, 1), 3.0, device=device), rows[:, :1].abs().round()):
            for places in (20, _FEATURES * 70 + 1):
                operands = (whole, others, bound, places)
                if not torch.equal(kernels.places_above(*operands), plain_places_above(*operands)):
                    return False
        return True

    checks = [decode, match_dots, row_sums, upper_scores, above, adam]
    checks += [update_rows] * (kernels.update_rows is not None) + [scores_at] * (kernels.scores_at is not None)
    checks += [places_above] * (kernels.places_above is not None)
    for check in checks:
        yield check.__name__, check


def _rows_to_update(rows: Tensor, kind: MomentsName) -> UpdatedRows:
    """Returns copies of some rows, with moments, and the prefilter's copy of them."""
    parameters = (rows.clone(), rows / rows.norm(dim=1, keepdim=True), rows[:, 1].clone())
    kept = []
    for number, parameter in enumerate(parameters):
        moments = moments_of(str(number), parameter, kind, 7, 0)
        before = moments.kept(2)
        if before.row_words is None:
            before.mean.copy_(parameter.flip(0))
            before.square.copy_(parameter.square())
        else:
            before.write(parameter.flip(0), parameter.square())
        kept.append((parameter, moments.kept(3)))
    return UpdatedRows(kept[0], kept[1], kept[2], PrefilterRows(rows.shape[0], rows.shape[1], rows.device).rows)


def _kept_alike(found: KeptMoments, expected: KeptMoments) -> bool:
    """Returns whether moments are equal up to rounding, which may decide otherwise here and there."""
    if found.row_words is None:
        return all(_near(*pair) for pair in zip(found.read(), expected.read(), strict=True))
    gap = 2**-7 if found.mean_scale is None else 0.3  # of neighbours, relative to them; of the second moment's squares
    for one, other in zip(found.read(), expected.read(), strict=True):
        near = torch.allclose(one, other, rtol=gap, atol=gap * 2**-10)
        if not near or float((~one.isclose(other, rtol=1e-4)).float().mean()) > _FLIPPED:
            return False
    return True


def _bounded(rows: UpdatedRows) -> bool:
    """Returns whether the prefilter's copy holds the rows, rounded, and margins that are large enough."""
    assert rows.low is not None
    W_enc, b_enc = rows.W_enc[0], rows.b_enc[0]
    width = W_enc.shape[1]
    low = rows.low.float()
    off = low[:, :width] - W_enc
    bias = low[:, width] + low[:, width + 1]
    norm, rounding_norm = low[:, width + 2 : width + 4].unbind(1)
    rounded = off.abs() <= 2**-7 * W_enc.abs()
    enough = (bias >= b_enc) & (norm >= W_enc.norm(dim=1)) & (rounding_norm >= off.norm(dim=1))
    return bool(rounded.all() & enough.all())


def _near(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
