from tests.reporting.features.samples import page


def test_what_follows_from_the_rest():
    one = page(4, count=25)
    assert (one.density, one.largest) == (0.25, one.top[0].acts[2])
    assert (one.top[0].peak, one.top[0].peak_token) == (one.top[0].acts[2], 3)


def test_a_dead_feature():
    dead = page(4, count=0)
    assert (dead.density, dead.largest) == (0.0, 0.0)
    assert page(4, rows=0, count=0).density == 0.0
