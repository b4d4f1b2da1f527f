import pytest
import torch

from distsae.devices import device_named
from distsae.errors import WrongInput


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_a_device_of_this_machine():
    assert device_named("cpu") == torch.device("cpu")
    assert device_named("cpu", 3, torch.float64) == torch.device("cpu")


def test_auto_is_the_cpu_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_named("auto") == device_named("auto", 1) == torch.device("cpu")


def test_auto_spreads_processes_over_the_gpus(two_gpus):
    assert [device_named("auto", rank) for rank in range(3)] == [torch.device("cuda", index) for index in (0, 1, 0)]


def test_auto_is_the_current_gpu_without_a_rank(two_gpus):
    assert device_named("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["abacus", "cuda:99"])
def test_an_unknown_device_is_named(name):
    with pytest.raises(WrongInput, match=rf"`device` \(={name}\) must be auto or a device .*; got .*; use"):
        device_named(name)


def test_a_device_must_support_the_dtype(monkeypatch):
    def empty(size, *, dtype, device):
        raise TypeError(f"{device} does not support {dtype}\nsecond line")

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(WrongInput, match=r"got cpu does not support torch\.float64; use cpu or auto$"):
        device_named("cpu", dtype=torch.float64)
