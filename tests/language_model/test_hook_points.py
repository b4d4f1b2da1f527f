from torch import nn

from distsae.language_model.hook_points import Place, block_places, blocks_path


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


def test_a_module_that_is_handed_the_stream_adds_what_its_last_projection_returns():
    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense_4h_to_h = nn.Linear(1, 1)

        def forward(self, hidden, residual):
            return self.dense_4h_to_h(hidden) + residual

    model, block = nn.Module(), nn.Module()
    block.self_attention, block.mlp = nn.Linear(1, 1), Adding()
    model.layers = nn.ModuleList([block])
    places = block_places(model)
    assert places["blocks.0.mlp_out"] == Place("layers.0.mlp.dense_4h_to_h", "output")
    assert places["blocks.0.attn_out"] == Place("layers.0.self_attention", "output")


def test_norms_of_what_is_returned_count_only_in_pairs():
    model, block = nn.Module(), nn.Module()
    block.self_attn, block.mlp, block.post_attention_layernorm = (nn.Linear(1, 1) for _ in range(3))
    model.layers = nn.ModuleList([block])  # as in Llama, where this norm comes before the MLP
    assert block_places(model)["blocks.0.attn_out"] == Place("layers.0.self_attn", "output")
    block.post_feedforward_layernorm = nn.Linear(1, 1)
    assert block_places(model)["blocks.0.attn_out"] == Place("layers.0.post_attention_layernorm", "output")
    assert block_places(model)["blocks.0.mlp_out"] == Place("layers.0.post_feedforward_layernorm", "output")
