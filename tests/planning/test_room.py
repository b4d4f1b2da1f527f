"""A run that cannot fit is refused before it begins; one that may is not."""

import re
from dataclasses import replace

import pytest

from distsae.cli.main import main
from distsae.errors import WrongInput
from distsae.planning import require_room, room
from distsae.planning.machine import whole_memory
from distsae.store import Store
from tests.planning.samples import run


@pytest.fixture
def of(tiny_store):
    def config(d_sae, **changes):
        return run(store=str(tiny_store), hook="blocks.1.resid_post", **changes, sae=replace(run().sae, d_sae=d_sae))

    return config


def test_a_trillion_features_are_refused_with_what_fits(of, tiny_store, monkeypatch):
    monkeypatch.setattr(room, "whole_memory", lambda: 4 << 30)
    store = Store.open(tiny_store)
    require_room(store, [of(4096)])
    with pytest.raises(WrongInput, match=r"`sae.d_sae` \(=1,000,000,000,000\) must fit.*4.00 GiB") as caught:
        require_room(store, [of(10**12)])
    advised = int(re.search(r"at most ([\d,]+) features", str(caught.value))[1].replace(",", ""))
    assert advised > 10**6
    require_room(store, [of(advised)])


def test_members_of_a_sweep_and_processes_of_a_machine_share_it(of, tiny_store, monkeypatch):
    store = Store.open(tiny_store)
    monkeypatch.setattr(room, "whole_memory", lambda: 1 << 30)
    half = of(400_000)
    require_room(store, [half])
    with pytest.raises(WrongInput, match="must fit"):
        require_room(store, [half] * 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(WrongInput, match="for 8 of its processes"):
        require_room(store, [half])


def test_the_command_says_so_at_once(tiny_store, tmp_path, capsys):
    command = ["train", "--store", str(tiny_store), "--hook", "blocks.1.resid_post", "--out", str(tmp_path / "run")]
    assert main([*command, "--sae.d_sae", "1e12", "--sae.k", "8", "--steps", "5"]) == 2
    assert "must fit into the memory" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_memory_of_this_machine_is_known():
    assert 1 << 28 < whole_memory() < 1 << 50
