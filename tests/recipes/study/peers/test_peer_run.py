"""A member that a peer trains: the rows of our batches, and the files of a run."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from distsae.batches import BatchReader
from distsae.errors import CannotContinue, Diverged, WrongInput
from distsae.model import SAE
from distsae.recipes.study.grid import Member
from distsae.recipes.study.methods import Method
from distsae.recipes.study.peers import Peer, check_peer_folder, train_peer
from distsae.recipes.study.peers.peer_run import max_norm_of, normalisation_of
from distsae.reporting.runs import load_runs
from distsae.store import Store
from distsae.training import TrainConfig
from distsae.training.freezing.heldout_rows import heldout_rows
from tests.store.outlier_store import HOOK as OUTLIER_HOOK
from tests.store.outlier_store import outlier_store

HOOK = "blocks.0.resid_post"
PEERS = {"fake": Peer(Path(__file__).with_name("fake_trainer.py"), "torch", "mutual_choice", "unit", "fast")}


def _member(**options):
    return Member(Method(name="fake", peer="fake", options=options), d_sae=48, k=4, lr=1e-2, seed=3)


def _base(store, tmp_path, **keys):
    given = {"steps": 12, "batch_tokens": 128, "log_every": 5, "order_seed": 6} | keys
    return TrainConfig(store=str(store), out=str(tmp_path), hook=HOOK, **given)


def _train(store, tmp_path, member, **keys):
    folder = tmp_path / "member"
    train_peer(member, _base(store, tmp_path, **keys), folder, Store.open(str(store)), sys.executable, PEERS)
    return folder


@pytest.fixture(scope="module")
def finished(tiny_store, tmp_path_factory):
    """The folder of a member that was trained to its end."""
    return _train(tiny_store, tmp_path_factory.mktemp("finished"), _member(threshold=0.01))


def test_a_peer_is_trained_on_our_batches_and_leaves_the_files_of_a_run(finished, tiny_store):
    folder = finished
    store = Store.open(str(tiny_store))
    record = json.loads((folder / "peer.json").read_text())
    reader = BatchReader(store, HOOK, 128, 6, 0, 1, "none")
    total = sum(float(reader.batch(step).x.double().sum()) for step in range(12))
    reader.close()
    scale = normalisation_of(store, HOOK, "unit").scale
    assert record["trainer"]["rows"] == 12 * 128
    assert record["trainer"]["sum"] == pytest.approx(total * scale, rel=1e-4, abs=1e-2)
    assert record["trainer"]["variant"] == "fast"
    assert record["own_l0"] > 4  # that threshold is too small

    sae = SAE.load(folder)
    assert (sae.cfg.allocation, sae.cfg.k, sae.cfg.tokens_seen) == ("mutual_choice", 4, 12 * 128)
    gap = json.loads((folder / "frozen_rule.json").read_text())
    assert gap["l0"] == pytest.approx(4, rel=0.3)
    assert 0 < gap["fvu"] < 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert lines[-1]["fvu"] < lines[0]["fvu"]
    (run,) = load_runs([folder])  # `distsae report` reads it
    assert run.setting("optimizer.lr") == 1e-2
    assert not (folder / "weights.npz").exists()


def test_unit_rows_have_a_mean_square_of_one(tiny_store):
    store = Store.open(str(tiny_store))
    rows = torch.cat([store.read_chunk(HOOK, chunk).float() for chunk in store.chunks()])
    normalised = normalisation_of(store, HOOK, "unit").apply(rows.clone())
    assert float(normalised.square().sum(1).mean()) == pytest.approx(1, rel=1e-3)
    scaled = normalisation_of(store, HOOK, "scale").apply(rows.clone())
    assert float(scaled.norm(dim=1).mean()) == pytest.approx(32**0.5, rel=1e-3)


def test_rows_over_the_limit_are_left_out_of_everything(tmp_path):
    store = outlier_store(tmp_path / "store")
    base = dataclasses.replace(_base(tmp_path / "store", tmp_path), hook=OUTLIER_HOOK)
    limit = max_norm_of(base, store)
    assert limit == store.norms(OUTLIER_HOOK).limit(10.0)
    assert max_norm_of(dataclasses.replace(base, max_norm_ratio="none"), store) is None
    train_peer(_member(), base, tmp_path / "member", store, sys.executable, PEERS)
    reader = BatchReader(store, OUTLIER_HOOK, 128, 6, 0, 1, "none")
    rows = torch.cat([reader.batch(step).x.clone() for step in range(12)])
    reader.close()
    norms = rows.norm(dim=1)
    kept = int(((norms > 0) & (norms <= limit)).sum())  # rows of the excluded token are zeros
    assert kept < 12 * 128
    record = json.loads((tmp_path / "member" / "peer.json").read_text())
    assert record["trainer"]["rows"] == kept
    gap = json.loads((tmp_path / "member" / "frozen_rule.json").read_text())
    assert gap["rows"] % 64 == 0
    assert gap["fvu"] > 0.1  # outliers would own the variance, and make it tiny
    assert SAE.load(tmp_path / "member").cfg.max_norm == limit


def test_rows_may_be_normalised_one_by_one(tiny_store, tmp_path):
    method = Method(name="fake", peer="fake", normalise="token")
    member = dataclasses.replace(_member(), method=method)
    folder = _train(tiny_store, tmp_path, member)
    sae, gap = SAE.load(folder), json.loads((folder / "frozen_rule.json").read_text())
    assert sae.normalises_rows
    store = Store.open(str(tiny_store))
    rows = heldout_rows(store, HOOK)[1].float()
    error = (sae(rows).detach() - rows).double().square().sum()
    energy = (rows.double() - rows.double().mean(0)).square().sum()
    assert gap["fvu"] == pytest.approx(float(error / energy), rel=1e-4)
    assert gap["l0"] == pytest.approx(4, rel=0.3)


def test_an_error_that_is_not_finite_diverges_and_leaves_no_sae(tiny_store, tmp_path):
    with pytest.raises(Diverged, match="at step 3"):
        _train(tiny_store, tmp_path, _member(nan_at=3))
    assert not (tmp_path / "member" / "sae").exists()


def test_a_peer_that_fails_is_one_line_and_starts_anew(tiny_store, tmp_path):
    with pytest.raises(CannotContinue, match="out of luck"):
        _train(tiny_store, tmp_path, _member(fail_at=11))
    folder = _train(tiny_store, tmp_path, _member())
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [5, 10, 12]


def test_a_folder_with_other_settings_is_refused(finished, tiny_store, tmp_path):
    member, base = _member(threshold=0.01), _base(tiny_store, tmp_path)
    check_peer_folder(member, base, tmp_path / "member", PEERS)
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["normalise"] == "unit"
    check_peer_folder(member, _base("elsewhere", tmp_path), finished, PEERS)
    with pytest.raises(WrongInput, match=r"`steps` \(=1\)"):
        check_peer_folder(member, _base(tiny_store, tmp_path, steps=1), finished, PEERS)
    with pytest.raises(WrongInput, match=r"peer.options.slow"):
        check_peer_folder(_member(slow=1), base, finished, PEERS)
