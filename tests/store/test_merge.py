"""A merged store has every row of each source with its origin, and the statistics of all rows."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import distsae.store.merge as merge_module
from distsae.errors import TornData, WrongInput
from distsae.store import Store, collect_orphans, merge_stores, seal_store, verify_store
from distsae.store.commit import commit_unit
from distsae.store.json_files import read_json
from tests.store.foreign import write_foreign_store
from tests.store.synthetic import attributes, write_store


def _news(**changes):
    return attributes(corpus="news", corpus_fingerprint="n", **changes)


def _novels(**changes):
    return attributes(
        corpus="novels", corpus_fingerprint="v", contexts=30, heldout_contexts=3, seed=4, unit_rows=64, **changes
    )


@pytest.fixture
def two(tmp_path):
    return write_store(tmp_path / "a", _news()), write_store(tmp_path / "b", _novels())


def _rows(store, hook, split):
    return torch.cat([store.read_chunk(hook, chunk) for chunk in store.chunks(split)])


def test_holds_the_rows_of_both_in_order(two, tmp_path):
    seen = []
    merged = merge_stores([store.path for store in two], tmp_path / "c", seen.append)
    assert merged.rows == sum(store.rows for store in two)
    assert merged.heldout_rows == sum(store.heldout_rows for store in two)
    assert sum(seen) == merged.rows + merged.heldout_rows
    for split in ("train", "heldout"):
        for hook in merged.attributes.hooks:
            assert torch.equal(_rows(merged, hook, split), torch.cat([_rows(store, hook, split) for store in two]))
        units = [(store, unit.index) for store in two for unit in store.units if unit.split == split]
        merged_units = [unit.index for unit in merged.units if unit.split == split]
        for index, (store, unit) in zip(merged_units, units, strict=True):
            ours, theirs = merged.read_ids(index), store.read_ids(unit)
            assert torch.equal(ours.context_id, theirs.context_id)
            assert torch.equal(ours.document_id, theirs.document_id)
    assert torch.equal(merged.heldout_contexts(), torch.cat([store.heldout_contexts() for store in two]))
    assert verify_store(merged) == []


def test_statistics_are_of_all_rows_exactly(two, tmp_path):
    merged = merge_stores([store.path for store in two], tmp_path / "c")
    dataset = read_json(tmp_path / "c" / "dataset.json")
    for hook in merged.attributes.hooks:
        x = _rows(merged, hook, "train").double().numpy()
        sealed = dataset["statistics"][hook]
        assert sealed["rows"] == len(x)
        np.testing.assert_allclose(sealed["mean"], x.mean(0), rtol=1e-13)
        assert sealed["mean_norm"] == pytest.approx(np.linalg.norm(x, axis=1).mean(), rel=1e-13)
        assert sealed["variance"] == pytest.approx(np.square(x - x.mean(0)).sum(1).mean(), rel=1e-12)
        # Bit for bit what the sums in the units' records give when they are added in this order.
        train = [unit.sums[hook] for store in two for unit in store.units if unit.split == "train"]
        assert sealed["mean"] == (np.sum([sums.x for sums in train], axis=0) / len(x)).tolist()
        assert sealed["mean_norm"] == sum(sums.norm for sums in train) / len(x)


def test_provenance_is_kept(two, tmp_path):
    merged = merge_stores([store.path for store in two], tmp_path / "c")
    assert merged.attributes.corpus == "news + novels"
    assert merged.attributes.contexts == 70
    assert merged.attributes.heldout_contexts == 7
    assert [source["corpus"] for source in merged.sources] == ["news", "novels"]
    for source, store in zip(merged.sources, two, strict=True):
        assert source["content_digest"] == store.content_digest
        assert source["fingerprint"] == store.fingerprint
        assert source["seed"] == store.attributes.seed
        assert [merged.units[index].digest for index in source["units"]] == [
            unit.digest for split in ("train", "heldout") for unit in store.units if unit.split == split
        ]
    assert merged.fingerprint not in {store.fingerprint for store in two}
    other = merge_stores([two[1].path, two[0].path], tmp_path / "d")
    assert other.fingerprint != merged.fingerprint
    assert other.content_digest != merged.content_digest
    assert all(store.sources == () for store in two)


def test_norms_are_those_of_the_units(two, tmp_path):
    merged = merge_stores([store.path for store in two], tmp_path / "c")
    units = [unit for split in ("train", "heldout") for store in two for unit in store.units if unit.split == split]
    assert [unit.sums for unit in merged.units] == [unit.sums for unit in units]
    assert merged.norms("c").rows == merged.rows


def test_files_are_linked_and_outlive_their_sources(two, tmp_path):
    merged = merge_stores([store.path for store in two], tmp_path / "c")
    rows = _rows(merged, "c", "train")
    data = [path for path in (tmp_path / "c" / "data").rglob("*") if path.is_file()]
    assert {path.stat().st_nlink for path in data} == {2}
    for store in two:
        shutil.rmtree(store.path)
    again = Store.open(tmp_path / "c")
    assert verify_store(again) == []
    assert torch.equal(_rows(again, "c", "train"), rows)


def test_collect_leaves_every_unit_alone(two, tmp_path):
    """There are more units than the attributes' contexts and rows would make."""
    merged = merge_stores([store.path for store in two], tmp_path / "c")
    orphan = tmp_path / "c" / "data" / "unit-000000" / "left"
    orphan.mkdir()
    assert collect_orphans(tmp_path / "c").attempts == 1
    assert verify_store(Store.open(merged.path)) == []


def test_an_interrupted_merge_resumes(two, tmp_path, monkeypatch):
    committed = []

    def dies(root, record):
        if len(committed) == 3:
            raise KeyboardInterrupt
        committed.append(record)
        return commit_unit(root, record)

    monkeypatch.setattr(merge_module, "commit_unit", dies)
    paths = [store.path for store in two]
    with pytest.raises(KeyboardInterrupt):
        merge_stores(paths, tmp_path / "c")
    monkeypatch.undo()
    with pytest.raises(WrongInput, match=r"got 3 of 9 units; run the same `distsae store merge` command again"):
        Store.open(tmp_path / "c")
    merged = merge_stores(paths, tmp_path / "c")
    assert [unit.attempt for unit in merged.units[:3]] == [record.attempt for record in committed]
    assert merged.content_digest == merge_stores(paths, tmp_path / "d").content_digest
    assert merge_stores(paths, tmp_path / "c").content_digest == merged.content_digest  # finished: nothing to do
    with pytest.raises(WrongInput, match=r"`out` .* must hold a store of the same settings"):
        merge_stores(paths[::-1], tmp_path / "c")


def test_across_file_systems_files_are_copied_and_checked(two, tmp_path):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev or not os.access(elsewhere, os.W_OK):
        pytest.skip("needs a second file system")
    paths = [store.path for store in two]
    with tempfile.TemporaryDirectory(dir=elsewhere) as folder:
        merged = merge_stores(paths, Path(folder) / "c")
        assert verify_store(merged) == []
        assert merged.content_digest == merge_stores(paths, tmp_path / "linked").content_digest
        file = next((paths[1] / "data").rglob("act/c/c/0/0"))
        content = file.read_bytes()
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.raises(TornData, match="is damaged"):
            merge_stores(paths, Path(folder) / "d")


def test_a_missing_or_cut_file_is_named(two, tmp_path):
    file = next((two[0].path / "data").rglob("token_id/c/0"))
    paths = [store.path for store in two]
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(TornData, match=f"{file} is damaged"):
        merge_stores(paths, tmp_path / "c")
    file.unlink()
    with pytest.raises(TornData, match=f"{file} is missing"):
        merge_stores(paths, tmp_path / "c")


def test_units_in_other_codecs_and_merged_stores_are_merged_too(two, tmp_path):
    third = write_foreign_store(
        tmp_path / "f", attributes(corpus="laws", corpus_fingerprint="l", seed=7), fill_value=-1
    )
    merged = merge_stores([two[0].path, two[1].path], tmp_path / "c")
    twice = merge_stores([merged.path, third.path], tmp_path / "d")
    assert verify_store(twice) == []
    expected = torch.cat([_rows(store, "c", "train") for store in (*two, third)])
    assert torch.equal(_rows(twice, "c", "train"), expected)
    assert [source["corpus"] for source in twice.sources[0]["sources"]] == ["news", "novels"]
    with pytest.raises(WrongInput, match="must hold other text than"):
        merge_stores([twice.path, two[1].path], tmp_path / "e")


def test_stores_that_cannot_be_merged_are_refused_with_both_values(two, tmp_path):
    other = write_store(tmp_path / "o", _novels(dtype="bf16", chunk_rows=16, model_digest="x"))
    with pytest.raises(WrongInput) as refused:
        merge_stores([two[0].path, other.path], tmp_path / "c")
    for part in ("model_digest x of synthetic here and m of synthetic in", "dtype bf16 here and fp32", "chunk_rows 16"):
        assert part in str(refused.value)
    for allowed in ("seed", "contexts", "unit_rows", "corpus"):
        assert f" {allowed}" not in str(refused.value).split("got ")[1]
    assert not (tmp_path / "c").exists()


def test_the_same_text_twice_and_other_mistakes_are_refused(two, tmp_path):
    same = write_store(tmp_path / "s", _news(seed=9))
    for paths, words in (
        ([two[0].path, same.path], "must hold other text than"),
        ([two[0].path, two[0].path], "must hold other text than"),
        ([two[0].path], "must be two or more"),
        ([two[0].path, tmp_path / "nothing"], "make one with"),
    ):
        with pytest.raises(WrongInput, match=words):
            merge_stores(paths, tmp_path / "c")
    with pytest.raises(WrongInput, match="must be a new store"):
        merge_stores([two[0].path, two[1].path], two[0].path)
    assert not (tmp_path / "c").exists()
    seal_store(two[0].path, two[0].attributes)  # sealing again changes nothing
    assert verify_store(Store.open(two[0].path)) == []
