import json

from distsae.store import FileChecksum, HookSums, UnitRecord


def test_survives_json_to_the_last_bit():
    record = UnitRecord(
        index=3,
        split="train",
        attempt="unit-000003/a",
        contexts=2,
        rows=16,
        fingerprint="f",
        digest="d",
        sums={"a.b": HookSums(x=[0.1 + 0.2, 1e-300], norm=1 / 3, norm_squared=2.0**60 + 1)},
        files={"act/a.b/c/0/0": FileChecksum(10, 4_294_967_295), "zarr.json": FileChecksum(1, 0)},
    )
    again = UnitRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert again == record
    assert isinstance(again.files["zarr.json"], FileChecksum)
