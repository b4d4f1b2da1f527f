from types import SimpleNamespace

from torch import nn

from distsae.hooks.hook_points import HookPoint, blocks_path, hook_points


def _modules_and_sides(model):
    return {name: (point.module, point.side) for name, point in hook_points(model).items()}


def test_outermost_longest_list_is_the_blocks():
    model = nn.Module()
    model.experts = nn.ModuleList([nn.Linear(1, 1) for _ in range(2)])
    model.layers = nn.ModuleList([nn.Module() for _ in range(3)])
    assert blocks_path(model) == "layers"
    assert blocks_path(nn.Linear(1, 1)) is None
    assert hook_points(nn.Linear(1, 1)) == {}


def test_as_many_blocks_as_the_config_has_layers():
    model = nn.Module()
    model.experts = nn.ModuleList([nn.Linear(1, 1) for _ in range(5)])
    model.layers = nn.ModuleList([nn.Module() for _ in range(3)])
    assert blocks_path(model) == "experts"
    model.config = SimpleNamespace(num_hidden_layers=3)
    assert blocks_path(model) == "layers"


def test_parts_that_a_block_lacks_are_left_out():
    model, block = nn.Module(), nn.Module()
    block.self_attn, block.mlp = nn.Linear(1, 1), nn.Module()
    block.mlp.down_proj = nn.Linear(1, 1)
    model.layers = nn.ModuleList([block, nn.Module()])
    points = hook_points(model)
    name = "blocks.0.mlp_hidden"
    assert points[name] == HookPoint(name=name, module="layers.0.mlp.down_proj", side="input")
    name = "blocks.0.attn_out"
    assert points[name] == HookPoint(name=name, module="layers.0.self_attn", side="output")
    assert [name for name in points if name.startswith("blocks.1")] == ["blocks.1.resid_pre", "blocks.1.resid_post"]


def test_a_part_that_receives_the_stream_adds_the_output_of_its_last_projection():
    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense_4h_to_h = nn.Linear(1, 1)

        def forward(self, hidden, residual):
            return self.dense_4h_to_h(hidden) + residual

    model, block = nn.Module(), nn.Module()
    block.self_attention, block.mlp = nn.Linear(1, 1), Adding()
    model.layers = nn.ModuleList([block])
    found = _modules_and_sides(model)
    assert found["blocks.0.mlp_out"] == ("layers.0.mlp.dense_4h_to_h", "output")
    assert found["blocks.0.attn_out"] == ("layers.0.self_attention", "output")


def test_norms_of_outputs_count_only_in_pairs():
    model, block = nn.Module(), nn.Module()
    block.self_attn, block.mlp, block.post_attention_layernorm = (nn.Linear(1, 1) for _ in range(3))
    model.layers = nn.ModuleList([block])  # as in Llama, where this norm comes before the MLP
    assert _modules_and_sides(model)["blocks.0.attn_out"] == ("layers.0.self_attn", "output")
    block.post_feedforward_layernorm = nn.Linear(1, 1)
    found = _modules_and_sides(model)
    assert found["blocks.0.attn_out"] == ("layers.0.post_attention_layernorm", "output")
    assert found["blocks.0.mlp_out"] == ("layers.0.post_feedforward_layernorm", "output")
