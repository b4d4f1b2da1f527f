import pytest
import torch
from torch.nn import functional

from distsae.errors import WrongInput
from distsae.evaluation.next_token import token_losses
from distsae.evaluation.spliced_model import CleanPass, SplicedModel
from tests.language_model.test_hooks_of_models import build, gpt2, tokens

HOOK = "blocks.0.resid_post"


@pytest.fixture
def runs(tiny_model):
    """Counts how often each block of the model runs."""
    counts, handles = [0, 0], []
    for number, block in enumerate(tiny_model.transformer.h):

        def count(*_, number=number):
            counts[number] += 1

        handles.append(block.mlp.register_forward_hook(count))
    yield counts
    for handle in handles:
        handle.remove()


def spliced(model, clean, activations):
    return token_losses(model.spliced_logits(clean, activations), clean.token_ids)


def test_the_clean_pass_is_the_model_itself(tiny_model, token_ids):
    clean = SplicedModel(tiny_model, HOOK).clean(token_ids)
    with torch.no_grad():
        output = tiny_model(token_ids, output_hidden_states=True)
    expected = functional.cross_entropy(output.logits[:, :-1].transpose(1, 2), token_ids[:, 1:], reduction="none")
    torch.testing.assert_close(clean.losses, expected)
    torch.testing.assert_close(clean.activations, output.hidden_states[1])


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("hook", [HOOK, "blocks.1.mlp_out", "blocks.0.resid_pre", "transformer.ln_f"])
def test_the_activations_themselves_change_nothing(tiny_model, token_ids, hook, resume):
    model = SplicedModel(tiny_model, hook, resume)
    clean = model.clean(token_ids)
    assert torch.equal(spliced(model, clean, clean.activations), clean.losses)
    assert torch.equal(token_losses(model.clean_logits(clean), token_ids), clean.losses)
    assert not torch.equal(spliced(model, clean, 0 * clean.activations), clean.losses)


def test_blocks_below_the_hook_run_once(tiny_model, token_ids, runs):
    model = SplicedModel(tiny_model, "blocks.1.attn_out")
    clean = model.clean(token_ids)
    assert runs == [1, 2]  # the trial ran the upper block once more
    model.clean(token_ids)
    assert runs == [2, 3]  # and there is no second trial
    model.spliced_logits(clean, clean.activations)
    assert runs == [2, 4]
    model.clean_logits(clean)
    assert runs == [2, 4]


def test_some_contexts_of_a_joined_pass(tiny_model, token_ids):
    model = SplicedModel(tiny_model, "blocks.1.resid_pre")
    clean = CleanPass.joined([model.clean(token_ids[:3]), model.clean(token_ids[3:])])
    assert clean.below is clean.activations  # one copy where both are the same
    index = torch.tensor([4, 0])
    some = clean.of(index)
    assert torch.equal(some.token_ids, token_ids[index])
    torch.testing.assert_close(spliced(model, some, some.activations), clean.losses[index])
    torch.testing.assert_close(token_losses(model.clean_logits(some), some.token_ids), clean.losses[index])


class Shared(torch.nn.Module):
    """Takes from the block below what only a running block leaves behind, as models with shared keys do."""

    def __init__(self, block, before, fails):
        super().__init__()
        self.block, self.before, self.fails = block, before, fails
        before.register_forward_hook(lambda module, _, output: setattr(module, "left", output))

    def forward(self, *args, **kwargs):
        left = vars(self.before).pop("left", None)
        if left is None and self.fails:
            raise KeyError("left")
        return self.block(*args, **kwargs) + (0.0 if left is None else 0.1 * left)


@pytest.mark.parametrize("fails", [True, False], ids=["fails without it", "is wrong without it"])
def test_a_model_that_needs_its_lower_blocks_has_whole_passes(capsys, fails):
    model = build(gpt2())
    blocks = model.transformer.h
    blocks[3] = Shared(blocks[3], blocks[1].mlp, fails)
    resumed, whole = (SplicedModel(model, "blocks.3.resid_pre", resume) for resume in (True, False))
    clean, expected = resumed.clean(tokens()), whole.clean(tokens())
    assert clean.below is None
    assert "the blocks below blocks.3.resid_pre run in every pass" in capsys.readouterr().err
    changed = 0.5 * clean.activations
    assert torch.equal(spliced(resumed, clean, changed), spliced(whole, expected, changed))
    assert torch.equal(resumed.clean_logits(clean), whole.clean_logits(expected))


def test_a_hook_that_never_runs_is_refused(tiny_model, token_ids):
    # the blocks of a module list run, but the list itself never does
    with pytest.raises(WrongInput, match="must run once in a forward pass; got 0 times"):
        SplicedModel(tiny_model, "transformer.h").clean(token_ids)
