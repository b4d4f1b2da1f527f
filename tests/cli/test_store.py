import json

import pytest

from distsae.cli.main import main
from distsae.producer import ProduceConfig, produce
from distsae.store import Store, begin_store


@pytest.fixture(scope="module")
def path(tiny_model_dir, tiny_corpus, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("stores") / "s")
    produce(
        ProduceConfig(
            model=str(tiny_model_dir),
            corpus=str(tiny_corpus),
            hooks=("blocks.0.resid_post",),
            out=out,
            context_length=16,
            max_rows=1000,
            unit_rows=300,
            device="cpu",
        )
    )
    return out


def test_info_as_json_and_as_a_table(path, capsys):
    assert main(["store", "info", path, "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    store = Store.open(path)
    assert info["rows"] == store.rows
    assert info["units"] == len(store.units)
    assert info["hooks"] == ["blocks.0.resid_post"]
    assert info["d_in"] == {"blocks.0.resid_post": 32}
    assert info["dtype"] == "fp16"
    files = [found for part in ("data", "commits") for found in (store.path / part).rglob("*")]
    assert info["files"] == sum(found.is_file() for found in files)
    assert info["inodes"] == len(files)
    assert info["context_length"] == 16
    assert info["fingerprint"] == store.fingerprint
    assert info["content_digest"] == store.content_digest
    assert {"model", "tokenizer", "corpus", "heldout_rows"} <= set(info)
    assert main(["store", "info", path]) == 0
    assert f"{store.rows:,}" in capsys.readouterr().out


def test_status_as_json_and_as_a_table(path, tmp_path, capsys):
    store = Store.open(path)
    assert main(["store", "status", path, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["state"] == "finished"
    assert status["units"] == status["units_total"] == len(store.units)
    assert status["rows"] == status["rows_total"] == store.rows + store.heldout_rows
    assert (status["producers"], status["seconds_left"]) == (0, 0.0)
    assert status["bytes"] > store.rows * 64
    assert "rows_per_second" in status
    begin_store(tmp_path / "begun", store.attributes)
    assert main(["store", "status", str(tmp_path / "begun")]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["state", "waiting"] in lines
    assert ["rows", f"0 of {store.rows + store.heldout_rows:,} (0%)"] in lines
    assert ["seconds", "left              unknown"] in lines
    assert main(["store", "status", str(tmp_path)]) == 2
    assert "must be a store" in capsys.readouterr().err


def test_verify_names_the_damaged_file_and_fails(path, capsys):
    assert main(["store", "verify", path]) == 0
    assert "whole" in capsys.readouterr().out
    store = Store.open(path)
    file = store.path / "data" / store.units[1].attempt / store.chunk_file("blocks.0.resid_post", store.chunks()[1])
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert main(["store", "verify", path]) == 1
    assert str(file) in capsys.readouterr().out
    file.write_bytes(content)
    assert main(["store", "verify", path]) == 0


def test_info_shows_the_norms_of_every_hook(tmp_path, capsys):
    from tests.store.synthetic import plant_outliers, write_store

    store = write_store(tmp_path / "s", change=plant_outliers)
    assert main(["store", "info", str(store.path), "--json"]) == 0
    norms = json.loads(capsys.readouterr().out)["norms"]
    assert set(norms) == {"a.b", "c"}
    assert norms["c"]["median"] == store.norms("c").median
    assert norms["c"]["outliers"]["positions"] == [[1, norms["c"]["outliers"]["rows"]]]
    assert main(["store", "info", str(store.path)]) == 0
    shown = capsys.readouterr().out
    assert "norms of a.b\n  median " in shown
    assert "norms of c\n  median " in shown


def test_measure_adds_what_an_older_store_lacks(tmp_path, capsys):
    from tests.store.synthetic import as_older, plant_outliers, write_store

    store = as_older(write_store(tmp_path / "s", change=plant_outliers))
    assert main(["store", "info", str(store.path)]) == 0
    assert f"norms of c: not measured; run `distsae store measure {store.path}`" in capsys.readouterr().out
    assert main(["store", "info", str(store.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["norms"] == {"a.b": None, "c": None}
    assert main(["store", "measure", str(store.path)]) == 0
    said = capsys.readouterr()
    assert f"{store.path}: measured 4 of 4 units\n" in said.out
    assert "\nc: " in said.out
    assert "training leaves such rows out (max_norm_ratio)" in said.out
    assert "measure: 320/320 rows (100%)" in said.err
    assert main(["store", "measure", str(store.path)]) == 0
    assert "measured 0 of 4 units; the others had histograms of norms" in capsys.readouterr().out
    assert main(["store", "measure", str(tmp_path / "nothing")]) == 2
    assert main(["store", "measure", "--help"]) == 0
    assert "distsae store measure stores/gpt2" in capsys.readouterr().out


def test_collect(path, capsys):
    assert main(["store", "collect", path]) == 0
    assert "removed 0 orphans" in capsys.readouterr().out


def test_wrong_input_is_one_line_and_code_2(tmp_path, capsys):
    for argv in (["store"], ["store", "inof", "x"], ["store", "info", str(tmp_path)], ["store", "info"]):
        assert main(argv) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 3
    assert "did you mean 'info'?" in errors[0]
    assert "distsae produce" in errors[1]
    assert main(["store", "--help"]) == 0


def test_merge_and_the_info_of_the_merged_store(tmp_path, capsys):
    from tests.store.synthetic import attributes, write_store

    one = write_store(tmp_path / "a", attributes(corpus="news", corpus_fingerprint="n"))
    two = write_store(tmp_path / "b", attributes(corpus="novels", corpus_fingerprint="v", seed=1))
    out = str(tmp_path / "c")
    assert main(["store", "merge", str(one.path), str(two.path), "--out", out]) == 0
    rows = one.rows + two.rows
    assert f"{rows:,} rows and 64 held-out ones in 8 units" in capsys.readouterr().out
    assert main(["store", "info", out, "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["rows"] == rows
    assert [(source["corpus"], source["path"]) for source in info["sources"]] == [
        ("news", str(one.path)),
        ("novels", str(two.path)),
    ]
    assert main(["store", "info", out]) == 0
    shown = capsys.readouterr().out
    assert f"merged from 0             {one.path}: {one.rows:,} rows of news" in shown
    assert "sources" not in shown
    assert main(["store", "verify", out]) == 0
    assert main(["store", "merge", str(one.path), str(tmp_path / "nothing"), "--out", out]) == 2
    assert main(["store", "merge", str(one.path), out, "--out", str(tmp_path / "d")]) == 2
    errors = capsys.readouterr().err
    assert "must hold other text than" in errors
