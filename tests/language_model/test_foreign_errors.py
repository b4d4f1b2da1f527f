import pickle

import pytest
import torch

from distsae.errors import CannotContinue, TornData, WrongInput
from distsae.language_model.foreign_errors import WrongModel, one_line


def _raised(error):
    with pytest.raises(WrongInput) as raised, WrongModel("m", "load", "use another model"):
        raise error
    assert raised.value.__cause__ is error
    return str(raised.value)


@pytest.mark.parametrize("error", [KeyError("a"), Exception("bare"), RuntimeError(""), AttributeError("x"), OSError(5)])
def test_any_exception_becomes_one_line(error):
    assert _raised(error).startswith(f"`model` (=m) must load; got {type(error).__name__}: ")
    assert _raised(error).endswith("; use another model")


def test_lines_and_control_characters_are_joined_and_long_texts_cut():
    assert one_line(ValueError("\nfirst\n\n\x1b[31msecond\x1b[0m")) == "ValueError: first [31msecond [0m"
    assert one_line(ValueError("")) == "ValueError: no reason given"
    assert len(one_line(ValueError("long " * 1000))) < 350


def test_advice_fits_the_cause():
    assert "set --trust_remote_code" in _raised(ValueError("Please pass `trust_remote_code=True` to\nallow"))
    assert "ImportError: X needs y; install what it names" in _raised(ImportError("X needs y"))
    assert "save the weights as safetensors" in _raised(pickle.UnpicklingError("Weights only load failed"))
    for error in (OSError("No such device (os error 19)"), OSError(19, "No such device")):
        assert _raised(error).endswith(
            "got a file system that cannot map files into memory; copy the model to a folder on another one"
        )


def test_what_is_no_fault_of_the_model_passes():
    with pytest.raises(TornData), WrongModel("m", "load", "use another"):
        raise TornData("a file")
    with pytest.raises(SystemExit), WrongModel("m", "load", "use another"):
        raise SystemExit(143)
    for error in (MemoryError(), torch.OutOfMemoryError("40 GiB")):
        with pytest.raises(CannotContinue, match="too little memory for the model m"), WrongModel("m", "load", "use"):
            raise error
