"""Contexts are called non-activating only if the feature does not fire in them: seen on the store, row by row."""

import json
import shutil

import numpy as np
import pytest
import torch

from distsae.errors import TornData, WrongInput
from distsae.model import SAE
from distsae.reporting.explanations.explain import explain, plan_of
from distsae.reporting.explanations.feature_contexts import TokenWindow
from distsae.reporting.explanations.firing_check import Firings
from distsae.reporting.features.build import build_features
from distsae.reporting.features.config import FeaturesConfig
from distsae.store import Store
from distsae.store.json_files import publish_json, read_json
from tests.reporting.explanations.chat_server import perfect, serving
from tests.reporting.explanations.samples import config
from tests.reporting.features.samples import HOOK, save_random_sae

SCORED = 6


@pytest.fixture(scope="module")
def run(tiny_store, tmp_path_factory):
    """A run with pages of a part of its rows, some of which are over the SAE's `max_norm`."""
    folder = tmp_path_factory.mktemp("run") / "run"
    norms = torch.cat([_rows(Store.open(tiny_store), unit)[0].norm(dim=1) for unit in (0,)])
    save_random_sae(folder / "sae", max_norm=float(norms.quantile(0.9)))
    settings = {"max_rows": 2000, "part_rows": 700, "shard_features": 64, "format": "parquet", "tokens_before": 5}
    build_features(FeaturesConfig(run=str(folder), store=str(tiny_store), device="cpu", **settings))
    return folder


def _rows(store, unit):
    chunks = [chunk for split in ("train", "heldout") for chunk in store.chunks(split) if chunk.unit == unit]
    return torch.cat([store.read_chunk(HOOK, chunk) for chunk in chunks]).float(), store.read_ids(unit)


def _plan(run, at, **changes):
    values = {"store": str(at), "scored_contexts": SCORED, "max_density": 1.0, "max_features": 60, "device": "cpu"}
    return plan_of(config(run, **(values | changes)))


@pytest.fixture(scope="module")
def fires(run, tiny_store):
    """The plain statement: for each feature and context, the positions at which the dense activation is over 0."""
    sae, store = SAE.load(run), Store.open(tiny_store)
    found = {}
    for unit in (record.index for record in store.units):
        x, ids = _rows(store, unit)
        acts = sae.encode(x) * (x.norm(dim=1, keepdim=True) <= sae.cfg.max_norm)
        for row, feature in acts.nonzero().tolist():
            found.setdefault((feature, int(ids.context_id[row])), set()).add(int(ids.position[row]))
    return found


def _fires_in(fires, feature, window):
    places = range(window.first_position, window.first_position + len(window.tokens))
    return bool(fires.get((feature, window.context_id), set()) & set(places))


def test_windows_know_where_they_are(run, tiny_store, fires):
    """What a page says of a window is what the plain statement says of its positions."""
    for own in _plan(run, tiny_store).tables.read(range(40)):
        for window in (*own.top, *own.sampled):
            on = {window.first_position + place for place in window.firing}
            places = range(window.first_position, window.first_position + len(window.tokens))
            assert on == fires[own.feature, window.context_id] & set(places)


def test_none_of_the_contexts_fires(run, tiny_store, fires):
    plan, plain = _plan(run, tiny_store), _plan(run, tiny_store, store=None, device="auto")
    firings, left_out, fewer = plan.firings(plan.features), 0, 0
    for own in plan.tables.read(plan.features):
        candidates = list(plan.others.candidates(own, 0))[: plan.others.looked_at(SCORED)]
        assert candidates[:SCORED] == plain.others.drawn(own, SCORED, 0)
        expected = [window for window in candidates if not _fires_in(fires, own.feature, window)]
        assert plan.others.drawn(own, SCORED, 0, firings) == expected[:SCORED]
        left_out += sum(_fires_in(fires, own.feature, window) for window in candidates[:SCORED])
        fewer += len(expected) < SCORED
    assert left_out > 50
    assert fewer
    made = [one for one in plan.examples(plan.features) if one is not None]
    assert all(one.other_firing == 0 for one in made)
    assert any(one.other_firing > 0 for one in plain.examples(plan.features) if one is not None)


def test_the_same_for_one_feature_alone_and_from_the_folder_of_pages(run, tiny_store):
    plan = _plan(run, tiny_store)
    found = {one.feature: one for one in plan.examples(plan.features) if one is not None}
    few = tuple(sorted(found)[3:5])
    for other in (plan, _plan(run / "features", tiny_store), _plan(run / "features", tiny_store, sae=str(run / "sae"))):
        assert {one.feature: one for one in other.examples(few)} == {feature: found[feature] for feature in few}


def test_results_say_that_contexts_were_looked_at(run, tiny_store, tmp_path):
    with serving(perfect) as server:
        changes = {"endpoint": server.endpoint, "out": str(tmp_path / "o"), "max_features": 3}
        summary = explain(_plan(run, tiny_store, **changes))
        assert summary["settings"]["checked_on_store"] is True
        assert summary["other_firing"] == 0
        with pytest.raises(WrongInput, match="must be a new folder, or hold explanations of the same settings"):
            _plan(run, tiny_store, **changes | {"scored_contexts": 3})
        assert json.loads((tmp_path / "o" / "settings.json").read_text())["checked_on_store"] is True


def test_another_store_or_sae(run, tiny_store, tmp_path, tmp_path_factory):
    other = save_random_sae(tmp_path / "other" / "sae", k=6)
    sae = SAE.load(other)
    sae.b_enc.data += 0.25
    sae.save(other)
    with pytest.raises(WrongInput, match=r"`sae` \(=.*other\) must be the SAE of the pages, with weights of digest"):
        _plan(run, tiny_store, sae=str(tmp_path / "other"))
    moved = shutil.copytree(run / "features", tmp_path / "alone" / "pages")
    with pytest.raises(WrongInput, match=r"`sae` \(=.*alone\) must be an SAE folder or a finished run"):
        _plan(moved, tiny_store)
    with pytest.raises(WrongInput, match="distsae produce"):
        _plan(run, tmp_path)
    manifest = moved / "features.json"
    content = read_json(manifest)
    content["settings"]["store"] = "another"
    manifest.unlink()
    publish_json(manifest, content)
    with pytest.raises(WrongInput, match=r"`store` .* must be the store of the pages, with content of digest another"):
        _plan(moved, tiny_store, sae=str(run))
    content["settings"]["max_rows"] = "many"
    manifest.unlink()
    publish_json(manifest, content)
    with pytest.raises(TornData, match=r"the settings of the pages in .* are damaged: `max_rows` must be"):
        _plan(moved, tiny_store, sae=str(run))


def test_windows_are_cut_where_they_end():
    firings = Firings({(3, 7): [4, 9]})
    window = TokenWindow(7, ("a", "b", "c"), (0.0, 0.0, 1.0), 5)
    assert not firings.in_window(3, window)
    for first in (2, 3, 4, 7, 8, 9):
        assert firings.in_window(3, TokenWindow(7, window.tokens, window.activations, first))
    assert not firings.in_window(2, TokenWindow(7, window.tokens, window.activations, 4))
    assert np.all([not firings.in_window(3, TokenWindow(6, window.tokens, window.activations, n)) for n in range(9)])
