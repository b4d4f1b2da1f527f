"""Which kernels a run gets, and which are refused on a device."""

import os
import re
import subprocess
import sys

import pytest
import torch

from distsae.errors import WrongInput
from distsae.kernels import CPU, REFERENCE, kernels_for
from tests.kernels.test_triton_gpu import VERSION, installed

HERE, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("name", "kernels"), [("auto", CPU), ("cpu", CPU), ("reference", REFERENCE)])
def test_on_a_cpu(name, kernels):
    assert kernels_for(name, HERE) is kernels


def test_a_gpu_has_the_reference_and_refuses_the_kernels_of_a_cpu():
    assert kernels_for("reference", GPU) is REFERENCE
    with pytest.raises(WrongInput, match=r"`kernels` \(=cpu\) must be used on a CPU; got cuda; use auto"):
        kernels_for("cpu", GPU)


def _finished(program, **variables):
    """Runs a program in a process of its own, where Triton is not imported yet."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    imports = "import sys, torch\nfrom distsae.errors import WrongInput\nfrom distsae.kernels import kernels_for\n"
    done = subprocess.run([sys.executable, "-c", imports + program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def _child(program, **variables):
    """Returns what a program prints in a process of its own."""
    return _finished(program, **variables).stdout.strip()


_ASK = "try: print(kernels_for('triton', torch.device('cpu')).name)\nexcept WrongInput as error: print(error)"


def test_without_triton_a_gpu_gets_the_reference_and_triton_is_refused():
    hide = "from distsae.kernels import choice\nchoice.find_spec = lambda name: None\n"
    assert _child(hide + "print(kernels_for('auto', torch.device('cuda')).name)\n" + _ASK).splitlines() == [
        "reference",
        "`kernels` (=triton) must be installed; got no package triton; install it, or use auto",
    ]


@installed
def test_triton_needs_a_gpu_and_is_not_imported_before_it_is_asked_for():
    before = "kernels_for('auto', torch.device('cpu'))\nprint('triton' in sys.modules)\n"
    refusal = "`kernels` (=triton) must be used on a GPU; got cpu; use auto"
    assert _child(before + _ASK).splitlines() == ["False", refusal]


@installed
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU and its driver")
def test_a_gpu_for_which_triton_cannot_be_built_gets_the_reference_with_a_warning():
    """There is no libcuda here, so nothing of Triton's can be started."""
    program = "gpu = torch.device('cuda')\nprint(kernels_for('auto', gpu).name, kernels_for('auto', gpu).name)\n"
    ask = "try: kernels_for('triton', gpu)\nexcept WrongInput as error: print(error, file=sys.stderr)"
    done = _finished(program + ask)
    assert done.stdout.strip() == "reference reference"
    warning, refusal = done.stderr.splitlines()
    reason = (
        r"`kernels` \(=triton\) must compute on cuda what the reference computes; the device gave \w+ .*; use `kernels`"
    )
    assert re.match(f"warning: {reason} .*; the reference is used now: slower", warning)
    assert re.match(reason, refusal)


@installed
@pytest.mark.skipif(VERSION < (3, 7), reason="this Triton's interpreter does not support NumPy 2.4")
def test_triton_runs_in_its_interpreter_on_request():
    assert _child(_ASK, TRITON_INTERPRET="1") == "triton"
