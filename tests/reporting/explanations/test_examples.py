import pytest

from distsae.reporting.explanations.examples import OtherContexts, examples_of
from tests.reporting.explanations.samples import config, contexts_of, window


def _own(contexts=20, feature=0, **changes):
    made = [window(feature * 100 + n, 0.0, 30.0 - n, 0.0, 1.0 if n % 2 else 0.0, 0.0) for n in range(contexts)]
    return contexts_of(feature, made[:12], made[10:], **changes)


OTHERS = OtherContexts([_own(feature=f) for f in range(1, 30)])


def test_held_out_contexts_are_scored():
    made = examples_of(_own(), OTHERS, config(shown_contexts=7, scored_contexts=8))
    shown = {window.context_id for window in made.shown}
    assert shown == set(range(7))
    assert made.largest == 30.0
    assert len(made.detection) == len(made.fuzzing) == 16
    assert sum(example.is_right for example in made.detection) == sum(example.is_right for example in made.fuzzing) == 8
    assert {example.marked for example in made.detection} == {frozenset()}


def test_never_the_same_context_shown_and_scored():
    """Each context has a token of its own, so that it is recognised."""
    for count in range(4, 20):
        windows = [window(n, 1.0, 0.0) for n in range(count)]
        windows = [type(w)(w.context_id, (f"own{w.context_id}", "x"), w.activations) for w in windows]
        made = examples_of(contexts_of(0, windows[:12], windows), OTHERS, config(scored_contexts=9))
        shown = [w.context_id for w in made.shown]
        scored = [e.tokens[0] for e in made.detection if e.is_right]
        assert shown == list(range(min(10, count // 2, 12)))
        assert len(scored) == len(set(scored)) == min(9, count - len(shown))
        assert not {f"own{n}" for n in shown} & set(scored)
        assert sorted(e.tokens[0] for e in made.fuzzing if e.is_right) == sorted(scored)


def test_too_few_contexts():
    assert examples_of(_own(3), OTHERS, config()) is None
    assert examples_of(_own(4), OTHERS, config()) is not None
    assert examples_of(_own(4), OtherContexts([_own()]), config()) is None
    assert examples_of(contexts_of(0, [], []), OTHERS, config()) is None


def test_contexts_of_others():
    own = contexts_of(0, [window(100, 1.0), window(205, 1.0)], [], related=frozenset({3}))
    pool = [_own(feature=f) for f in (0, 1, 2, 3)] + [_own(feature=4, related=frozenset({0})), _own(feature=5)]
    for seed in range(20):
        drawn = OtherContexts(pool).drawn(own, 10, seed)
        assert {window.context_id // 100 for window in drawn} == {1, 2, 5}
        assert len(drawn) == 3
        assert not {window.context_id for window in drawn} & {100, 205}
    again = _own(feature=7)
    same_contexts = [contexts_of(f, again.top[:1], []) for f in (7, 8, 9)]
    assert len(OtherContexts(same_contexts).drawn(own, 10, 0)) == 1
    assert len(OtherContexts(pool).drawn(own, 2, 0)) == 2


@pytest.mark.parametrize("place", ["non_activating", "activating"])
def test_wrong_marks(place):
    made = examples_of(_own(), OTHERS, config(wrong_marks=place))
    right = [example for example in made.fuzzing if example.is_right]
    wrong = [example for example in made.fuzzing if not example.is_right]
    assert {len(example.marked) for example in right} == {1, 2}
    assert {len(example.marked) for example in wrong} == {2}  # 1.5 on average, rounded up
    assert all(example.marked <= {1, 3} for example in right)
    assert len(wrong) == 8
    if place == "activating":
        assert all(not example.marked & {1} for example in wrong)
    else:
        assert any(1 in example.marked for example in wrong)


def test_a_context_that_fires_everywhere_gets_no_wrong_marks():
    windows = [window(n, 1.0, 1.0) for n in range(6)]
    made = examples_of(contexts_of(0, windows, []), OTHERS, config(wrong_marks="activating"))
    assert all(example.is_right for example in made.fuzzing)


def test_the_same_for_the_same_seed_alone():
    first, again, other = (examples_of(_own(), OTHERS, config(seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert [e.is_right for e in first.detection] != [e.is_right for e in other.detection]
    assert [e.is_right for e in first.detection] != [e.is_right for e in first.fuzzing]


def test_the_upper_estimate_of_firing_in_others():
    assert examples_of(_own(density=0.001), OTHERS, config()).other_firing == pytest.approx(8 * 5 * 0.001)
    assert examples_of(_own(density=1.0), OTHERS, config()).other_firing == 8
