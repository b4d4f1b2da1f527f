"""Which kernels a run gets, and what refuses to run where it cannot."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from distsae.errors import WrongInput
from distsae.kernels import CPU, REFERENCE, kernels_for

HERE, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("name", "kernels"), [("auto", CPU), ("cpu", CPU), ("reference", REFERENCE)])
def test_on_a_cpu(name, kernels):
    assert kernels_for(name, HERE) is kernels


def test_a_gpu_has_the_reference_and_not_what_is_for_a_cpu():
    assert kernels_for("reference", GPU) is REFERENCE
    with pytest.raises(WrongInput, match=r"`kernels` \(=cpu\) must be used on a CPU; got cuda; use auto"):
        kernels_for("cpu", GPU)


def _child(program, **variables):
    """Runs a program in a process of its own, where Triton is not imported yet."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    begin = "import sys, torch\nfrom distsae.errors import WrongInput\nfrom distsae.kernels import kernels_for\n"
    done = subprocess.run([sys.executable, "-c", begin + program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_ASK = "try: print(kernels_for('triton', torch.device('cpu')).name)\nexcept WrongInput as error: print(error)"


def test_triton_is_not_imported_unless_it_is_chosen():
    assert _child("kernels_for('auto', torch.device('cpu')); print('triton' in sys.modules)") == "False"


def test_without_triton_a_gpu_gets_the_reference_and_who_asks_for_it_a_refusal():
    hide = "sys.modules['triton'] = None; import importlib.util; find = importlib.util.find_spec\n"
    hide += "from distsae.kernels import choice; choice.find_spec = lambda name: None\n"
    assert _child(hide + "print(kernels_for('auto', torch.device('cuda')).name)") == "reference"
    assert _child(hide + _ASK) == (
        "`kernels` (=triton) must be installed; got no package triton; install it, or use auto"
    )


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_triton_wants_a_gpu_or_its_interpreter():
    assert _child(_ASK) == "`kernels` (=triton) must be used on a GPU; got cpu; use auto"
    assert _child(_ASK, TRITON_INTERPRET="1") == "triton"
