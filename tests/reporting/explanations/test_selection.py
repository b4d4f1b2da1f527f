import pytest

from distsae.errors import WrongInput
from distsae.reporting.explanations.page_tables import PageTables
from distsae.reporting.explanations.selection import other_contexts, selected_features
from tests.reporting.explanations.samples import config, contexts_of, feature_page, write_pages


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Features 0 to 19; every fifth is dead, and 7 fires on a tenth of the rows."""
    pages = [feature_page(f, contexts=0 if f % 5 == 0 else 18, rows=180 if f == 7 else 100_000) for f in range(20)]
    return PageTables(write_pages(tmp_path_factory.mktemp("pages"), pages))


def test_random_ones_that_fire_but_not_too_often(tables):
    fitting = {f for f in range(20) if f % 5 and f != 7}
    assert set(selected_features(tables, config(max_features=50))) == fitting
    some = [selected_features(tables, config(max_features=count)) for count in (3, 6)]
    assert len(some[0]) == 3
    assert set(some[0]) < set(some[1]) < fitting
    assert some[0] == sorted(some[0])
    assert some[1] != selected_features(tables, config(max_features=6, seed=1))
    assert 7 in selected_features(tables, config(max_features=50, max_density=0.1))


def test_those_that_are_asked_for(tables):
    assert selected_features(tables, config(features=(9, 5, 9))) == [5, 9]
    with pytest.raises(WrongInput, match="must be below the number of features; got 20 of 20"):
        selected_features(tables, config(features=(20,)))
    with pytest.raises(WrongInput, match=r"got feature 7 with 0\.1, which may fire in any context"):
        selected_features(tables, config(features=(3, 7)))


def test_none_is_left(tables):
    with pytest.raises(WrongInput, match="must leave features to explain"):
        selected_features(tables, config(max_density=1e-9))


def test_others_are_of_the_whole_sae_and_the_same_for_a_seed(tables):
    own = contexts_of(999, [], [])
    drawn = other_contexts(tables, config()).drawn(own, 100, 0)
    assert {window.context_id // 100 for window in drawn} == {f for f in range(20) if f % 5}
    assert drawn == other_contexts(tables, config(features=(3,))).drawn(own, 100, 0)
