"""What a study knows of its members."""

import json

from distsae.exit_codes import DIVERGED
from distsae.recipes.study.outcomes import Outcomes
from tests.recipes.study.samples import BATCH, STEPS, TC, plan, save_sae


def _outcomes(store, tmp_path):
    found = plan(store, tmp_path / "o", methods=[TC])
    return found, Outcomes(found), found.cells[0].trials[0]


def test_a_member_is_finished_with_the_sae_of_all_its_tokens(tiny_store, tmp_path):
    found, outcomes, member = _outcomes(tiny_store, tmp_path)
    assert outcomes.to_train(member)
    assert outcomes.heldout_fvu(member) is None
    save_sae(found.folder(member), tokens=STEPS * BATCH - 1)
    assert outcomes.to_train(member)
    save_sae(found.folder(member), tokens=STEPS * BATCH)
    (found.folder(member) / "frozen_rule.json").write_text('{"fvu": 0.5}')
    assert outcomes.finished(member)
    assert not outcomes.to_train(member)
    assert outcomes.heldout_fvu(member) == 0.5
    (found.folder(member) / "frozen_rule.json").write_text('{"fvu": null}')
    assert outcomes.heldout_fvu(member) is None


def test_failures_are_kept_until_the_member_is_trained_again(tiny_store, tmp_path):
    found, outcomes, member = _outcomes(tiny_store, tmp_path)
    outcomes.fail(member, 1, "a disk was full")
    again = Outcomes(found)
    assert again.failure(member).reason == "a disk was full"
    assert again.to_train(member)
    outcomes.fail(member, DIVERGED, "at step 3")
    again = Outcomes(found)
    assert not again.to_train(member)
    again.begin(member)
    assert Outcomes(found).failure(member) is None


def test_an_sae_outweighs_a_failure(tiny_store, tmp_path):
    found, outcomes, member = _outcomes(tiny_store, tmp_path)
    outcomes.fail(member, 1, "it was killed after its SAE was written")
    save_sae(found.folder(member))
    assert outcomes.failure(member) is None


def test_a_new_training_makes_an_evaluation_void(tiny_store, tmp_path):
    found, outcomes, member = _outcomes(tiny_store, tmp_path)
    found.folder(member).mkdir(parents=True)
    for name in ("evaluation.json", "evaluation.npz"):
        (found.folder(member) / name).write_text(json.dumps({"fvu": 1}))
    assert outcomes.evaluation(member) == {"fvu": 1}
    outcomes.begin(member)
    assert outcomes.evaluation(member) is None
    assert list(found.folder(member).iterdir()) == []


def test_where_it_diverged(tiny_store, tmp_path):
    found, outcomes, member = _outcomes(tiny_store, tmp_path)
    assert outcomes.diverged_at(member) is None
    for step in (12, 3):
        (found.folder(member) / "diagnosis" / f"step-{step:08d}").mkdir(parents=True)
    assert outcomes.diverged_at(member) == 12
