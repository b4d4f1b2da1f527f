"""Dotted keys lead to the values of a nested dictionary, and nowhere else."""

from distsae.nested_keys import at_key, flat_keys

NESTED = {"sae": {"k": 32, "d_sae": 4096}, "seed": 0, "empty": {}, "list": [{"a": 1}]}


def test_every_value_has_a_key():
    assert flat_keys(NESTED) == {"sae.k": 32, "sae.d_sae": 4096, "seed": 0, "list": [{"a": 1}]}
    assert all(at_key(NESTED, key) == value for key, value in flat_keys(NESTED).items())


def test_what_is_not_there_is_none():
    assert [at_key(NESTED, key) for key in ("sae.x", "seed.k", "list.a", "x.y")] == [None] * 4
    assert at_key(None, "sae") is None
    assert at_key(NESTED, "sae") == {"k": 32, "d_sae": 4096}
