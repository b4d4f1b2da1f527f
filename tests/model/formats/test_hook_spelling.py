"""Hooks have the same meaning under each tool's name; names that are not known stay as they are."""

import pytest

from distsae.model.formats.hook_spelling import (
    from_hookpoint,
    from_submodule,
    from_transformer_lens,
    to_submodule,
    to_transformer_lens,
)

LENS = [
    ("blocks.11.hook_resid_post", "blocks.11.resid_post"),
    ("blocks.0.hook_resid_pre", "blocks.0.resid_pre"),
    ("blocks.3.hook_attn_out", "blocks.3.attn_out"),
    ("blocks.3.hook_mlp_out", "blocks.3.mlp_out"),
    ("blocks.3.mlp.hook_post", "blocks.3.mlp_hidden"),
]


@pytest.mark.parametrize(("theirs", "ours"), LENS)
def test_transformer_lens(theirs, ours):
    assert from_transformer_lens(theirs) == ours
    assert to_transformer_lens(ours) == theirs


def test_other_names_stay():
    for name in ("blocks.3.hook_resid_mid", "blocks.3.attn.hook_z", "model.layers.3.mlp", "hook_embed", ""):
        assert from_transformer_lens(name) == name
        assert to_transformer_lens(name) == name


def test_hookpoints_of_sparsify():
    assert from_hookpoint("layers.5") == "blocks.5.resid_post"
    assert from_hookpoint("h.5.mlp") == "blocks.5.mlp_out"
    assert from_hookpoint("model.layers.12.self_attn") == "blocks.12.attn_out"
    assert from_hookpoint("layers.5.mlp.down_proj") is None
    assert from_hookpoint("my-sae") is None


def test_submodules_of_dictionary_learning():
    for hook in ("blocks.5.resid_post", "blocks.0.attn_out", "blocks.31.mlp_out"):
        assert from_submodule(to_submodule(hook)) == hook
    assert to_submodule("blocks.5.resid_post") == "resid_post_layer_5"
    assert to_submodule("model.layers.5") == "model.layers.5"
    assert from_submodule("something_layer_5") is None
    assert from_submodule("resid_post") is None
