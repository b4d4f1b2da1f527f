from tests.reporting.explanations.samples import contexts_of, window


def test_where_it_fires_and_how_strongly():
    own = contexts_of(1, [window(5, 0.0, 3.0, 0.5), window(6, 1.0, 0.0, 0.0)], [window(6, 1.0), window(9, 0.25)])
    assert own.top[0].firing == {1, 2}
    assert own.context_ids == {5, 6, 9}
    assert own.largest == 3.0
    assert contexts_of(1, [], []).largest == 0.0
