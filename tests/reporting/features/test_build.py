import json

import pyarrow.parquet as pq
import pytest

from distsae.errors import TornData, WrongInput
from distsae.reporting.features import build
from distsae.reporting.features.build import build_features, default_out
from distsae.reporting.features.config import FeaturesConfig
from distsae.reporting.features.part_pass import part_result
from tests.reporting.features.samples import D_SAE, save_random_sae, script_content, tree


@pytest.fixture(scope="module")
def sae(tmp_path_factory):
    return save_random_sae(tmp_path_factory.mktemp("run") / "run" / "sae")


def _config(sae, store, out, **changes):
    values = {"run": str(sae.parent), "store": str(store), "out": str(out), "device": "cpu", "max_rows": 3000}
    values |= {"part_rows": 700, "shard_features": 64, "format": "site,parquet,neuronpedia,saedashboard"}
    return FeaturesConfig(**(values | changes))


@pytest.fixture(scope="module")
def built(sae, tiny_store, tmp_path_factory):
    return build_features(_config(sae, tiny_store, tmp_path_factory.mktemp("out") / "pages"))


def test_everything_is_there(built):
    assert sorted(path.name for path in built.iterdir()) == sorted(
        ("assets", "data", "features.json", "index.html", "neuronpedia", "parquet", "saedashboard")
    )
    rows = pq.read_table(built / "parquet").to_pylist()
    assert [row["feature"] for row in rows] == list(range(D_SAE))
    index = script_content(built / "data" / "index.js")
    assert index["count"] == [row["count"] for row in rows]
    assert sum(index["count"]) > 1000
    assert (index["name"], index["rows"], index["split"]) == ("run", 2976, "train")
    manifest = json.loads((built / "features.json").read_text())
    assert manifest["facts"]["d_sae"] == D_SAE
    dashboards = [json.loads(path.read_text()) for path in sorted((built / "saedashboard").glob("batch-*.json"))]
    listed = [feature["feature_index"] for batch in dashboards for feature in batch["features"]]
    skipped = json.loads((built / "saedashboard" / "skipped_indexes.json").read_text())["skipped_indexes"]
    assert sorted(listed + skipped) == list(range(D_SAE))


def test_the_same_bytes_again_and_after_an_interruption(sae, tiny_store, built, tmp_path, monkeypatch):
    config = _config(sae, tiny_store, tmp_path / "pages")
    encoded = []

    def interrupted(sae, store, contexts, part, settings):
        encoded.append(part.number)
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return part_result(sae, store, contexts, part, settings)

    monkeypatch.setattr(build, "part_result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_features(config)
    assert not (tmp_path / "pages" / "index.html").exists()
    build_features(config)
    assert encoded == [0, 1, 2, 2, 3, 4]
    assert tree(tmp_path / "pages") == tree(built)


def test_a_finished_folder_is_left_alone(sae, tiny_store, built):
    before = tree(built)
    assert build_features(_config(sae, tiny_store, built)) == built
    assert tree(built) == before
    with pytest.raises(WrongInput, match="must be a new folder, or hold pages of the same settings"):
        build_features(_config(sae, tiny_store, built, tokens=3))


def test_a_damaged_result_of_a_part(sae, tiny_store, tmp_path, monkeypatch):
    config = _config(sae, tiny_store, tmp_path / "pages")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "_work_through_features", stop)
    with pytest.raises(KeyboardInterrupt):
        build_features(config)
    monkeypatch.undo()
    (file,) = tmp_path.glob("pages/unfinished/part-000002.safetensors")
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(TornData, match=r"part-000002.safetensors is damaged"):
        build_features(config)


def test_only_what_is_asked_for(sae, tiny_store, tmp_path):
    out = build_features(_config(sae, tiny_store, tmp_path / "pages", format="parquet", max_rows=40))
    assert sorted(path.name for path in out.iterdir()) == ["features.json", "parquet"]


def test_where_pages_go(sae):
    assert default_out(str(sae.parent)) == sae.parent / "features"
    assert default_out(str(sae)) == sae / "features"


def test_a_file_in_the_way(sae, tiny_store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongInput, match="must be in a folder; got the file"):
        build_features(_config(sae, tiny_store, tmp_path / "file" / "pages"))
