"""Every refused value of the auxiliary loss is named, with what it was."""

import pytest

from distsae.errors import WrongInput
from distsae.losses import AuxiliaryConfig

POSITIVE = ("alpha", "k_per_k", "dead_after_tokens", "window_tokens", "refresh_steps")


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -1])
def test_what_must_be_positive(name, value):
    with pytest.raises(WrongInput, match=rf"^`auxiliary.{name}` \(={value}\) must be positive$"):
        AuxiliaryConfig(**{name: value})


@pytest.mark.parametrize("rho", [0.0, -0.1, 1.5])
def test_rho_is_a_share(rho):
    with pytest.raises(WrongInput, match=rf"^`auxiliary.rho` \(={rho}\) must be in \(0, 1\]$"):
        AuxiliaryConfig(rho=rho)


def test_the_smallest_and_largest_values_that_are_allowed():
    least = AuxiliaryConfig(alpha=1e-9, k_per_k=0.01, rho=1e-9, dead_after_tokens=1, window_tokens=1, refresh_steps=1)
    assert (least.rho, AuxiliaryConfig(rho=1.0).rho) == (1e-9, 1.0)


def test_windows_fit_short_runs_and_are_a_million_tokens_in_long_ones():
    auto = AuxiliaryConfig()
    assert [auto.window(tokens) for tokens in (1, 600, 6_000_000, 10**12)] == [1, 100, 1_000_000, 1_000_000]
    assert auto.dead_after(600) == 100
    given = AuxiliaryConfig(window_tokens=7, dead_after_tokens=9)
    assert (given.window(600), given.dead_after(600)) == (7, 9)
