"""The config says which kind of SAE it is to others."""

import pytest

from distsae.model import SAEConfig

VALUES = {
    "d_in": 4, "d_sae": 8, "k": 2, "hook_name": "blocks.3.resid_post", "hook_layer": 3, "model_name": "m",
    "context_size": 16, "prepend_bos": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("allocation", "architecture"),
    [("token_choice", "topk"), ("mutual_choice", "jumprelu"), ("feature_choice", "jumprelu")],
)
def test_the_architecture_is_that_of_the_frozen_rule(allocation, architecture):
    cfg = SAEConfig(**VALUES, allocation=allocation)
    assert cfg.architecture == architecture
    assert cfg.to_dict()["architecture"] == architecture
    assert cfg.to_dict().items() >= VALUES.items()
