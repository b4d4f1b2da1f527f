import json

import pytest
import torch

from distsae.store import FileChecksum, HookSums, NormHistogram, UnitRecord
from distsae.store.records import count_files, merged_norms
from tests.store.synthetic import write_store


def _norms():
    acts = torch.tensor([[1.0, 0.1], [0.3, 1.2], [70.0, 1 / 3]])
    return NormHistogram.of(acts, torch.arange(3), torch.arange(3))


def _record(norms):
    return UnitRecord(
        index=3,
        split="train",
        attempt="unit-000003/a",
        contexts=2,
        rows=16,
        fingerprint="f",
        digest="d",
        sums={"a.b": HookSums(x=[0.1 + 0.2, 1e-300], norm=1 / 3, norm_squared=2.0**60 + 1, norms=norms)},
        files={"act/a.b/c/0/0": FileChecksum(10, 4_294_967_295), "zarr.json": FileChecksum(1, 0)},
    )


@pytest.mark.parametrize("norms", [_norms(), None], ids=["norms", "older"])
def test_survives_json_to_the_last_bit(norms):
    record = _record(norms)
    again = UnitRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert again == record
    assert isinstance(again.files["zarr.json"], FileChecksum)


def test_without_norms_it_is_written_as_before_there_were_any():
    assert _record(None).to_json()["sums"] == {
        "a.b": {"x": [0.1 + 0.2, 1e-300], "norm": 1 / 3, "norm_squared": 2.0**60 + 1}
    }


def test_unknown_fields_are_ignored():
    record = _record(_norms())
    values = record.to_json()
    values["sums"]["a.b"]["later"] = 1
    assert UnitRecord.from_json({**values, "later": 1}) == record


def test_norms_of_units_together_are_there_if_every_unit_has_them():
    assert merged_norms([_record(_norms())] * 2, "a.b").rows == (2, 2, 2)
    assert merged_norms([_record(_norms()), _record(None)], "a.b") is None
    assert merged_norms([], "a.b") is None


def test_files_and_folders_are_those_on_the_disk(tmp_path):
    store = write_store(tmp_path / "s")
    found = [path for part in ("data", "commits") for path in (store.path / part).rglob("*")]
    files, folders = count_files(store.committed())
    assert files == sum(path.is_file() for path in found)
    assert folders == sum(path.is_dir() for path in found)
