"""A model in parts: its activations are those of the whole one, whatever is where, and each is read from its device.

The weights of this machine's split are on the CPU and on the disk. Two GPUs are played by tensors that have devices and
no values; their operations refuse to mix devices, as real ones do.
"""

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch._subclasses.fake_tensor import FakeTensorMode

from distsae.errors import WrongInput
from distsae.language_model import capture, hook_widths, input_device, load_language_model
from distsae.language_model.split_model import refuse_map, refuse_shared_gpus

HOOKS = ("blocks.0.resid_post", "blocks.1.resid_pre", "blocks.1.attn_out", "blocks.1.mlp_hidden", "blocks.1.resid_post")
IDS = torch.arange(40, 56).reshape(2, 8)
PARTS = ("transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.h.1", "transformer.ln_f", "lm_head")


def on_disk(*parts):
    """A map with some parts on the disk."""
    return {part: "disk" if part in parts else "cpu" for part in PARTS}


@pytest.mark.parametrize(
    ("device_map", "said"),
    [
        ({"": "cpu"}, "is not split: all of it is on cpu"),
        ("auto", "is not split: all of it is on cpu"),
        (on_disk("transformer.h.1", "transformer.ln_f"), "is split into 6 parts: 4 on cpu, 2 on disk"),
        (on_disk("transformer.wpe", "transformer.h.0"), "is split into 6 parts: 4 on cpu, 2 on disk"),
    ],
)
def test_the_same_activations_as_in_one_piece(tiny_model_dir, device_map, said, capsys):
    whole = capture(load_language_model(str(tiny_model_dir)).model, HOOKS, IDS)
    split = load_language_model(str(tiny_model_dir), device_map=device_map)
    assert said in capsys.readouterr().err
    assert input_device(split.model) == torch.device("cpu")
    assert split.vocabulary == 280
    for _ in range(2):  # parts that were brought from the disk for one pass are brought again for the next
        found = capture(split.model, HOOKS, IDS)
        assert all(torch.equal(found[hook], whole[hook]) for hook in HOOKS)
    assert hook_widths(split.model, HOOKS)["blocks.1.mlp_hidden"] == 128


class TwoBlocks(torch.nn.Module):
    """A model of two blocks, whose output is on the device of the second."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(60, 4)
        self.blocks = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()) for _ in "ab"])

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, use_cache):
        x = self.embed(input_ids)
        for block in self.blocks:
            x = x.to(next(block.parameters()).device) + block(x)
        return x


def test_each_activation_is_read_from_the_device_of_its_part():
    with FakeTensorMode():
        model = TwoBlocks()
        for part, device in (("embed", "cuda:0"), ("blocks.0", "cuda:0"), ("blocks.1", "cuda:1")):
            for inner in model.get_submodule(part).modules():  # as transformers does it for a map of two GPUs
                for name, tensor in inner._parameters.items():
                    inner._parameters[name] = torch.empty_like(tensor, device=device)
                add_hook_to_module(inner, AlignDevicesHook(execution_device=torch.device(device)))
        assert input_device(model) == torch.device("cuda:0")
        ids = torch.ones(2, 8, dtype=torch.int64, device="cuda:0")
        hooks = ("blocks.0.resid_post", "blocks.1.resid_pre", "blocks.1.resid_post", "blocks.1.1")
        where = {hook: str(tensor.device) for hook, tensor in capture(model, hooks, ids).items()}
        with pytest.raises(RuntimeError, match=r"cuda:0.*cuda:1"):
            torch.add(capture(model, hooks, ids)["blocks.0.resid_post"], capture(model, hooks, ids)["blocks.1.1"])
    assert where == {
        "blocks.0.resid_post": "cuda:0",
        "blocks.1.resid_pre": "cuda:0",  # as it arrives; the block brings it to its own device
        "blocks.1.resid_post": "cuda:1",
        "blocks.1.1": "cuda:1",
    }


def test_maps_that_are_none():
    for device_map, said in (
        ("automatic", r"`device_map` \(=automatic\) must be one of auto, balanced, balanced_low_0, sequential, or map"),
        ({}, "`device_map` .* must map parts of the model to devices; got none; use auto"),
    ):
        with pytest.raises(WrongInput, match=said):
            refuse_map(device_map, "auto")
    with pytest.raises(WrongInput, match=r"`device` \(=cuda:1\) must be left out with `device_map`"):
        refuse_map("auto", "cuda:1")
    refuse_map({"": "cpu"}, "auto")


def test_devices_that_this_machine_has_not(tiny_model_dir):
    with pytest.raises(WrongInput, match=r"got RuntimeError: .*; use another `device_map` \(=\{'': 'gpu'\}\)"):
        load_language_model(str(tiny_model_dir), device_map={"": "gpu"})


def test_processes_that_would_split_over_the_same_gpus(monkeypatch):
    refuse_shared_gpus(8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    refuse_shared_gpus(1)
    with pytest.raises(WrongInput, match="got 4 processes that see 8 each; start one process, or start each by itself"):
        refuse_shared_gpus(8)
