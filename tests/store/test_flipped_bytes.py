"""One flipped byte in any file of a store is found by `verify_store` and on reading, and the file is named."""

from __future__ import annotations

import random
import re
import shutil

import pytest

from distsae.errors import TornData
from distsae.store import Store, begin_store, seal_store, unit_contexts, verify_store
from tests.store.foreign import commit_foreign_unit
from tests.store.synthetic import attributes, write_unit


def _mixed_store(root):
    """Writes a store with one unit in zarr-python's default codecs."""
    attrs = attributes(dtype="fp16", contexts=14, heldout_contexts=2)
    begin_store(root, attrs)
    commit_foreign_unit(root, attrs, 1, fill_value=-1)
    for unit in range(len(unit_contexts(attrs))):
        if unit != 1:
            write_unit(root, attrs, unit)
    seal_store(root, attrs)
    for orphan in (root / "data" / "unit-000001").iterdir():
        if orphan.name != "foreign":
            shutil.rmtree(orphan)
    return Store.open(root)


def _read_everything(root):
    store = Store.open(root)
    for hook in store.attributes.hooks:
        for split in ("train", "heldout"):
            for chunk in store.chunks(split):
                store.read_chunk(hook, chunk)
    for record in store.units:
        for name in store.arrays:
            store.array(record.index, name).read()


def _faults(root):
    try:
        return verify_store(Store.open(root))
    except TornData as error:  # dataset.json, attributes.json and commit records are read on opening
        return [str(error)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("flipped") / "s"
    _mixed_store(root)
    assert _faults(root) == []
    _read_everything(root)
    return root


def test_every_file_is_covered(root):
    rng, kinds = random.Random(0), set()
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    for path in files:
        content = path.read_bytes()
        for offset in {0, len(content) - 1, *(rng.randrange(len(content)) for _ in range(3))}:
            flipped = bytearray(content)
            flipped[offset] ^= rng.randrange(1, 256)
            path.write_bytes(flipped)
            faults = _faults(root)
            assert len(faults) == 1, (path, offset)
            assert str(path) in faults[0]
            with pytest.raises(TornData, match=re.escape(str(path))):
                _read_everything(root)
        path.write_bytes(content)
        kinds.add(re.sub(r"\d+|[0-9a-f]{32}", "#", path.name))
    assert kinds >= {"attributes.json", "dataset.json", "unit-#.json", "zarr.json", "#"}


@pytest.mark.parametrize("name", ["attributes.json", "dataset.json", "commits/unit-000000.json"])
def test_a_flip_that_does_not_change_the_meaning_is_found_too(root, name):
    content = (root / name).read_bytes()
    for before, after in ((b"\n", b"\r"), (b": ", b":\t")):
        (root / name).write_bytes(content.replace(before, after, 1))
        (fault,) = _faults(root)
        assert f"{root / name} is damaged" in fault
    (root / name).write_bytes(content)
    assert _faults(root) == []


@pytest.mark.parametrize("unit", [0, 1], ids=["our codecs", "other codecs"])
@pytest.mark.parametrize("array", ["act/c", "token_id", "context_token_ids"])
def test_a_missing_chunk_is_an_error(root, unit, array):
    store = Store.open(root)
    file = root / "data" / store.units[unit].attempt / store.array(unit, array).files()[0]
    content = file.read_bytes()
    store.array(unit, array).read()
    file.unlink()
    with pytest.raises(TornData, match=f"{re.escape(str(file))} is missing"):
        store.array(unit, array).read()  # also after it has been there once
    with pytest.raises(TornData, match=f"{re.escape(str(file))} is missing"):
        _read_everything(root)
    (fault,) = _faults(root)
    assert f"{file} is missing" in fault
    file.write_bytes(content)
