from torch import nn

from distsae.producer.blocks import Place, block_places, blocks_path


def test_outermost_longest_list_is_the_blocks():
    model = nn.Module()
    model.experts = nn.ModuleList([nn.Linear(1, 1) for _ in range(2)])
    model.layers = nn.ModuleList([nn.Module() for _ in range(3)])
    assert blocks_path(model) == "layers"
    assert blocks_path(nn.Linear(1, 1)) is None
    assert block_places(nn.Linear(1, 1)) == {}


def test_parts_that_a_block_lacks_are_left_out():
    model, block = nn.Module(), nn.Module()
    block.self_attn, block.mlp = nn.Linear(1, 1), nn.Module()
    block.mlp.down_proj = nn.Linear(1, 1)
    model.layers = nn.ModuleList([block, nn.Module()])
    places = block_places(model)
    assert places["blocks.0.mlp_hidden"] == Place("layers.0.mlp.down_proj", "input")
    assert places["blocks.0.attn_out"] == Place("layers.0.self_attn", "output")
    assert [name for name in places if name.startswith("blocks.1")] == ["blocks.1.resid_pre", "blocks.1.resid_post"]
