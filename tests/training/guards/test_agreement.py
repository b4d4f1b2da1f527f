"""The facts that ranks compare, and the error when they differ; tests/distributed/test_agreement.py has real ranks."""

import dataclasses

import pytest

from distsae.training import TrainConfig
from distsae.training.guards.agreement import (
    differences,
    facts_of_process,
    named_ranks,
    require_agreement,
    source_digest,
)

HOSTS = ["a", "a", "b", "b", "b", "c"]


def test_ranks_and_hosts_in_words():
    assert named_ranks([0], HOSTS) == "rank 0 (host a)"
    assert named_ranks([1, 2], HOSTS) == "ranks 1, 2 (hosts a, b)"
    assert named_ranks([0, 2, 3, 4, 5], HOSTS) == "ranks 0, 2 to 5 (hosts a, b, c)"
    many = [f"h{rank}" for rank in range(100)]
    assert named_ranks(list(range(100)), many) == "ranks 0 to 99 (hosts h0, h1, h2, h3, h4, h5, h6, h7 and 92 more)"


def test_a_key_that_some_ranks_do_not_have():
    facts = [{"config:a": "1"}, {"config:a": "1", "config:b": "2"}]
    assert differences(["x", "y"], facts) == (
        "`b` must be the same on every process; got nothing on rank 0 (host x), 2 on rank 1 (host y); "
        "start every process with the same arguments and the same config file"
    )
    assert differences(["x", "y"], [facts[0], facts[0]]) == ""


def test_many_differences_are_one_sentence():
    first = {f"config:k{number}": "1" for number in range(6)} | {"code:version of torch": "2.9"}
    found = differences(["x", "y"], [first, dict.fromkeys(first, "2")])
    assert found.count("must be the same") == 4
    assert "; so must `k3`, `k4`, `k5`; start every process" in found
    assert found.endswith("install the same versions on every machine")


def test_every_key_of_the_config_is_compared_except_the_path_of_the_store():
    config = TrainConfig(store="here", out="run")
    facts = facts_of_process(config, "f")
    keys = {field.name for field in dataclasses.fields(config)} - {"store"}
    assert {key.removeprefix("config:").split(".")[0] for key in facts if key.startswith("config:")} == keys
    assert facts == facts_of_process(dataclasses.replace(config, store="there"), "f")
    assert facts != facts_of_process(config, "g")
    assert [key for key in facts if not key.startswith("config:")] == [
        "code:version of distsae",
        "code:source files of distsae",
        "code:version of torch",
        "code:version of accelerate",
        "store:fingerprint",
    ]


def test_the_digest_is_of_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.py").write_text("y")
    before = source_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("built here")
    assert source_digest(tmp_path) == before
    (tmp_path / "sub" / "b.py").rename(tmp_path / "sub" / "c.py")
    moved = source_digest(tmp_path)
    (tmp_path / "sub" / "c.py").write_text("z")
    assert len({before, moved, source_digest(tmp_path)}) == 3
    config = TrainConfig(store="s", out="o")
    assert facts_of_process(config, "f", tmp_path)["code:source files of distsae"] == source_digest(tmp_path)


def test_one_process_compares_nothing(tmp_path):
    (tmp_path / "unreadable.py").mkdir()
    with pytest.raises(IsADirectoryError):
        source_digest(tmp_path)
    assert require_agreement(TrainConfig(store="s", out="o"), "f", tmp_path) is None  # takes no digest
