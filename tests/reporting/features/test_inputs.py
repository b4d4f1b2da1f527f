import shutil

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from distsae.errors import WrongInput
from distsae.reporting.features.config import FeaturesConfig
from distsae.reporting.features.inputs import open_inputs
from tests.reporting.features.dense import whole_sae, whole_store
from tests.reporting.features.samples import save_random_sae


@pytest.fixture(scope="module")
def sae(tmp_path_factory):
    return save_random_sae(tmp_path_factory.mktemp("sae") / "sae")


def _config(sae, store, **changes):
    return FeaturesConfig(**({"run": str(sae), "store": str(store), "device": "cpu"} | changes))


def test_the_stores_own_model(sae, tiny_store):
    inputs = open_inputs(_config(sae, tiny_store))
    assert inputs.head.unembedding.shape[1] == 32
    tokenizer = AutoTokenizer.from_pretrained(inputs.store.attributes.model)
    assert inputs.vocabulary == len(tokenizer)
    tokens = inputs.store.heldout_contexts()[0, 1:].tolist()
    assert "".join(inputs.text.of(tokens)) == tokenizer.decode(tokens)


def test_a_model_that_is_not_at_hand(tmp_path, capsys):
    whole_store(tmp_path / "store", model="/gone/model")
    whole_sae().save(tmp_path / "sae")
    inputs = open_inputs(_config(tmp_path / "sae", tmp_path / "store"))
    assert (inputs.head, inputs.vocabulary, inputs.text[3]) == (None, 0, "⟨3⟩")
    assert "the model of the store is not at hand" in capsys.readouterr().err


def test_another_model_is_refused(sae, tiny_store, tiny_model_dir, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model_dir, other)
    model = AutoModelForCausalLM.from_pretrained(other)
    model.lm_head.weight.data.mul_(2)
    model.save_pretrained(other)
    with pytest.raises(WrongInput, match=r"`model` .* must be the model that produced the store, whose weights have"):
        open_inputs(_config(sae, tiny_store, model=str(other)))
    assert open_inputs(_config(sae, tiny_store, model=str(tiny_model_dir))).head is not None


def test_an_sae_of_another_width_or_hook(tiny_store, tmp_path):
    with pytest.raises(WrongInput, match="activations as wide as the SAE's d_in 16; got 32"):
        open_inputs(_config(save_random_sae(tmp_path / "a", d_in=16), tiny_store))
    with pytest.raises(WrongInput, match=r"`hook` \(=blocks.7.resid_post\) must be in the store"):
        open_inputs(_config(save_random_sae(tmp_path / "b", hook_name="blocks.7.resid_post"), tiny_store))
