"""A study is checked before any work."""

import dataclasses

import pytest

from distsae.errors import WrongInput
from distsae.recipes.study.plan import check_evaluation
from tests.recipes.study.samples import COMMON, GRID, MC, TC, plan


def test_every_method_has_its_config_with_hook_and_steps(tiny_store, tmp_path):
    common = {"batch_tokens": 64, "hook": "blocks.1.resid_post", "auxiliary": {"rho": 0.3}}
    found = plan(tiny_store, tmp_path / "o", common=common, methods=[TC, {**MC, "auxiliary": {"alpha": 0.5}}])
    assert [method.name for method in found.methods] == ["TC", "MC"]
    base = found.bases["MC"]
    assert base.steps == 8711 // 64  # an epoch
    assert (base.auxiliary.rho, base.auxiliary.alpha, base.wandb) == (0.3, 0.5, "off")
    member = found.cells[-1].trials[0]
    assert found.folder(member) == tmp_path / "o" / "members" / "MC" / member.name
    assert found.tokens(member) == base.steps * 64
    assert found.work(member) == base.steps * 64 * 64


def test_sizes_of_rates(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[TC], grid={**GRID, "lr": ["auto", 1e-3]})
    cell = found.cells[0]
    assert found.size_of(cell, 1e-3) == 1e-3
    assert found.size_of(cell, "auto") == pytest.approx(2.2e-3 * (2**14 / 64) ** 0.5)
    peer = dataclasses.replace(cell, method=dataclasses.replace(cell.method, peer="sparsify_topk"))
    assert found.size_of(peer, "auto") is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"grid": {**GRID, "k": [65]}}, "grid: `grid.k`"),
        ({"grid": [GRID, {**GRID, "methods": ["XC"]}]}, r"`grid.methods` \(=XC\)"),
        ({"methods": [{**TC, "allocation": "token"}]}, "method TC: `allocation`"),
        ({"methods": [{**TC, "finetune_fc_from": 0.5}]}, "method TC: `finetune_fc_from`"),
        ({"common": {**COMMON, "hook": "blocks.9.mlp_out"}}, "method TC: `hook`"),
        ({"evaluate": {"max_token": 3}}, "evaluate: unknown key `max_token`; did you mean 'max_tokens'"),
        ({"evaluate": {"run": "elsewhere"}}, "`run` must not be in evaluate"),
        ({"methods": [{"name": "p", "peer": "saelens"}]}, "method p: `peer`"),
        ({"methods": [{"name": "p", "peer": "sparsify_topk"}]}, "`peers_python` must be given"),
        ({"processes": 3, "common": {**COMMON, "mesh": {"feature": 2}}}, r"`processes` \(=3\)"),
    ],
)
def test_wrong_studies(tiny_store, tmp_path, keys, message):
    with pytest.raises(WrongInput, match=message):
        plan(tiny_store, tmp_path / "o", **keys)


def test_code_of_the_model_may_run_in_evaluations(tiny_store, tmp_path):
    for keys in ({"trust_remote_code": True}, {"evaluate": {"trust_remote_code": True}}):
        assert plan(tiny_store, tmp_path / "o", **keys).evaluation.trust_remote_code
    assert not plan(tiny_store, tmp_path / "o").evaluation.trust_remote_code


def test_a_member_with_other_mathematics_is_refused(tiny_store, tmp_path):
    found = plan(tiny_store, tmp_path / "o", methods=[TC])
    member = found.cells[0].repeats(1e-2)[1]  # one that is trained only if its rate is the best
    folder = found.folder(member)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("batch_tokens: 128\n")
    with pytest.raises(WrongInput, match=r"TC: sweep member d_sae-64_k-4_lr-0\.01_seed-1: `allocation`"):
        plan(tiny_store, tmp_path / "o", methods=[TC])


def test_evaluations_are_tried_on_an_sae_of_the_right_shape(tiny_store, tiny_model_dir, tmp_path):
    check_evaluation(plan(tiny_store, tmp_path / "o"))
    with pytest.raises(WrongInput, match="evaluate: `model`"):
        check_evaluation(plan(tiny_store, tmp_path / "o", evaluate={"model": str(tmp_path)}))
    with pytest.raises(WrongInput, match=r"evaluate: .*nothing\.txt"):
        check_evaluation(plan(tiny_store, tmp_path / "o", evaluate={"corpus": str(tmp_path / "nothing.txt")}))
