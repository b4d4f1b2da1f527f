"""Tensors that do not go with a config are refused by name."""

import pytest
import torch

from distsae.errors import WrongInput
from distsae.model.sae_tensors import check_tensors
from tests.model.formats.samples import config, sample_sae

NAMES = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "quota_per_token")


def _check(cfg, **changes):
    tensors = dict.fromkeys(NAMES) | dict(sample_sae().state_dict()) | changes
    check_tensors(cfg, **tensors)


def test_what_goes_together():
    _check(config())
    _check(config("token_choice"), threshold=None)


@pytest.mark.parametrize("name", NAMES)
def test_each_shape(name):
    with pytest.raises(WrongInput, match=f"`{name}` must have shape"):
        _check(config(), **{name: torch.zeros(3, 3)})


def test_thresholds_and_dtypes():
    with pytest.raises(WrongInput, match="`threshold` must be given"):
        _check(config(), threshold=None)
    with pytest.raises(WrongInput, match="`W_enc` must have one of the dtypes"):
        _check(config(), W_enc=torch.zeros(12, 50, dtype=torch.int32))
