import numpy as np
import pytest
import torch

from distsae.errors import CannotContinue, WrongInput
from distsae.language_model import capture, load_language_model
from distsae.producer.unit import check_fits, compute_unit
from distsae.store import StoreAttributes, row_order
from distsae.text import Contexts

HOOK = "blocks.1.mlp_out"


@pytest.fixture(scope="module")
def language_model(tiny_model_dir):
    return load_language_model(str(tiny_model_dir))


@pytest.fixture(scope="module")
def contexts():
    generator = torch.Generator().manual_seed(0)
    return Contexts(
        token_ids=torch.randint(280, (9, 12), generator=generator, dtype=torch.int32),
        document_id=torch.arange(9 * 12, dtype=torch.int32).reshape(9, 12) // 20,
    )


def _attributes(**changes):
    values = {
        "model": "m", "model_revision": "", "model_digest": "", "tokenizer_digest": "", "corpus": "",
        "corpus_fingerprint": "", "hooks": (HOOK,), "d_in": {HOOK: 32}, "dtype": "fp32", "context_length": 12,
        "prepend_bos": True, "excluded_positions": 3, "unit_rows": 45, "contexts": 9, "heldout_contexts": 1,
        "seed": 0, "batch_contexts": 2,
    }  # fmt: skip
    return StoreAttributes(**{**values, **changes})


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_rows_are_permuted_and_keep_their_ids(language_model, contexts, dtype):
    attributes, counted = _attributes(dtype=dtype), []
    ids = np.array([7, 2, 5])
    data = compute_unit(language_model, attributes, contexts, 4, ids, counted.append)
    assert counted == [18, 9]
    order = row_order(attributes, 4, 27)
    natural = capture(language_model.model, [HOOK], contexts.token_ids[ids].long())[HOOK][:, 3:].reshape(27, 32)
    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    assert data.acts[HOOK].dtype == kind
    torch.testing.assert_close(data.acts[HOOK], natural.to(kind)[order])
    positions = data.rows["position"]
    assert positions.min() == 3
    for name, source in (("token_id", contexts.token_ids), ("document_id", contexts.document_id)):
        assert (data.rows[name] == source[data.rows["context_id"], positions]).all()
    assert (data.context_token_ids == contexts.token_ids[ids]).all()
    assert len(data) == 27


def test_rows_of_excluded_tokens_are_zeros(language_model, contexts):
    ids = np.array([7, 2, 5])
    usual = compute_unit(language_model, _attributes(), contexts, 4, ids, lambda rows: None)
    some = usual.rows["token_id"][[0, 5]]
    excluding = _attributes(excluded_tokens=tuple(sorted(some.tolist())))
    data = compute_unit(language_model, excluding, contexts, 4, ids, lambda rows: None)
    excluded = torch.isin(usual.rows["token_id"], some)
    assert 2 <= excluded.sum() < 10
    assert torch.equal(data.acts[HOOK], usual.acts[HOOK].masked_fill(excluded[:, None], 0))
    for name, values in usual.rows.items():
        assert torch.equal(data.rows[name], values)
    everything = _attributes(excluded_tokens=tuple(range(280)))
    with pytest.raises(CannotContinue, match="must leave rows in every unit; got none in unit 4"):
        compute_unit(language_model, everything, contexts, 4, ids, lambda rows: None)


def test_activations_that_do_not_fit_the_dtype_are_refused(tiny_model_dir, contexts):
    loud = load_language_model(str(tiny_model_dir))
    loud.model.transformer.h[1].mlp.c_proj.bias.data[:4] = 1e5
    with pytest.raises(CannotContinue, match=r"got 1\.25e-01 of the values at blocks\.1\.mlp_out beyond 65504"):
        compute_unit(loud, _attributes(dtype="fp16"), contexts, 0, np.array([0]), lambda rows: None)
    check_fits(loud, _attributes(dtype="fp32"), contexts.token_ids[:2])
    with pytest.raises(WrongInput, match=r"`dtype` \(=bf16\) must keep activations apart; .*; use --dtype fp32"):
        check_fits(loud, _attributes(dtype="bf16"), contexts.token_ids[:2])
    loud.model.transformer.h[1].mlp.c_proj.bias.data[0] = float("nan")
    with pytest.raises(WrongInput, match=r"18 infinities or NaNs at .*; use another hook or model"):
        check_fits(loud, _attributes(dtype="bf16"), contexts.token_ids[:2])
