"""Sets of methods by name, and methods of the user's own."""

import pytest

from distsae.cli.parsing import from_keys
from distsae.errors import WrongInput
from distsae.nested_keys import flat_keys
from distsae.recipes.study.methods import METHOD_SETS, Method, methods_of
from distsae.training import TrainConfig


def test_the_papers_methods():
    methods = methods_of("paper", {"steps": 10})
    assert [method.name for method in methods] == [
        *("TC", "TC+aux_k", "MC", "MC+aux_k", "MC+aux_zipf", "FC uniform", "FC Zipf", "MC then FC")
    ]
    assert all(method.keys["steps"] == 10 for method in methods)
    assert methods[-1].keys["finetune_fc_from"] == 0.7


@pytest.mark.parametrize("name", ["paper", "ablations"])
def test_every_method_with_a_name_is_a_valid_training(name):
    for method in methods_of(name, {}):
        config = from_keys(TrainConfig, {**method.keys, "store": "s", "out": "o"})
        assert isinstance(config, TrainConfig)
        assert flat_keys(config.stored()).items() >= method.keys.items()


def test_ablations_differ_in_something_and_windows_follow_the_shared_one():
    methods = methods_of("ablations", {"auxiliary": {"window_tokens": 800}})
    assert len({tuple(sorted(method.keys.items(), key=str)) for method in methods}) == len(methods)
    assert {method.keys["auxiliary.window_tokens"] for method in methods} == {200, 800, 3200}
    for common, expected in (({"steps": 6, "batch_tokens": 4096}, {1024, 16_384}), ({}, {250_000, 4_000_000})):
        windows = {method.keys.get("auxiliary.window_tokens") for method in methods_of("ablations", common)}
        assert windows == {None, *expected}


def test_a_method_of_ones_own_overrides_what_all_share():
    (method,) = methods_of([{"name": "late", "aux": "none", "optimizer": {"beta2": 0.99}}], {"aux": "aux_k"})
    assert method == Method(name="late", keys={"aux": "none", "optimizer.beta2": 0.99})


def test_sets_may_be_joined_and_a_method_of_both_is_taken_once():
    both = methods_of(["paper", "ablations"], {})
    assert [method.name for method in both].count("MC") == 1
    assert len(both) < len(METHOD_SETS["paper"]({})) + len(METHOD_SETS["ablations"]({}))


def test_rates_of_its_own():
    assert methods_of([{"name": "a", "lr": [1, "auto"]}], {})[0].lr == (1.0, "auto")
    assert methods_of([{"name": "a", "lr": 2e-3}], {})[0].lr == (2e-3,)
    assert methods_of([{"name": "a"}], {})[0].lr is None


def test_a_peer_takes_what_all_share_but_neither_our_normalisation_nor_our_keys():
    (method,) = methods_of(
        [{"name": "p", "peer": "sparsify_topk", "options": {"optimizer": "adam"}}], {"normalise": "centre", "steps": 5}
    )
    assert method == Method(name="p", keys={"steps": 5}, peer="sparsify_topk", options={"optimizer": "adam"})
    (method,) = methods_of([{"name": "p", "peer": "sparsify_topk", "normalise": "unit"}], {})
    assert method.normalise == "unit"
    with pytest.raises(WrongInput, match="`aux` must not be given"):
        methods_of([{"name": "p", "peer": "sparsify_topk", "aux": "none"}], {})


@pytest.mark.parametrize(
    ("given", "common", "message"),
    [
        ("papers", {}, r"`methods` \(=papers\) must name a set of methods, .*did you mean 'paper'"),
        ([{"aux": "none"}], {}, "a `name`"),
        ([], {}, "at least one method"),
        ([{"name": "a b"}, {"name": "a/b"}], {}, "more than once"),
        ([{"name": "a", "sae": {"k": 3}}], {}, "method a; give its values as `k` of `grid`"),
        ("paper", {"optimizer": {"lr": 1e-3}}, "`optimizer.lr` must not be in common"),
        ("paper", {"sweep": {"k": [1]}}, "because the study gives it"),
        ([{"name": "a", "lr": [0.1, 0.1]}], {}, "each value once"),
        ([{"name": "a", "lr": ["quick"]}], {}, "must be positive, or auto"),
        ([{"name": "a", "lr": []}], {}, "at least one"),
        ([{"name": "a", "options": {"b": 1}}], {}, "give `peer` as well"),
    ],
)
def test_wrong_methods(given, common, message):
    with pytest.raises(WrongInput, match=message):
        methods_of(given, common)


def test_names_become_folders():
    assert Method(name="MC+aux_zipf, k/2 ").folder == "MC+aux_zipf-k-2"
    assert Method(name="../..").folder == "method"
