"""Compressed chunks of a stranger: what they expand to is known before anything expands them."""

import contextlib
import dataclasses
import gzip
import json
import resource
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorstore
import zarr
import zarr.codecs
from hypothesis import given, settings
from hypothesis import strategies as st

from distsae.checked_files import WrongField
from distsae.errors import TornData
from distsae.store.attempt_files import record_files
from distsae.store.expansion import ZarrExtension, check_codecs, check_expansion
from distsae.store.foreign_array import ForeignArray

BYTES = ZarrExtension(name="bytes", configuration={"endian": "little"})
CRC = ZarrExtension(name="crc32c")
ROWS = 1000


def _zstd_of_repeated_bytes(blocks, named=None):
    """A frame of `blocks` blocks of 128 KiB of one byte each, 4 bytes in the file; its header may name a size."""
    flags = 0 if named is None else 0xC0
    header = struct.pack("<IBB", 0xFD2FB528, flags, 0x58) + (b"" if named is None else struct.pack("<Q", named))
    block = (128 << 10) << 3 | 1 << 1
    ends = [block] * (blocks - 1) + [block | 1]
    return header + b"".join(struct.pack("<I", value)[:3] + b"\0" for value in ends)


BOMBS = {
    "gzip": gzip.compress(bytes(50 << 20)),
    "gzip in two members": gzip.compress(bytes(ROWS)) + gzip.compress(bytes(50 << 20)),
    "zstd that names its size": _zstd_of_repeated_bytes(400, 400 * (128 << 10)),
    "zstd that does not": _zstd_of_repeated_bytes(400),
    "zstd behind a frame to skip": struct.pack("<IIH", 0x184D2A51, 2, 0) + _zstd_of_repeated_bytes(400),
    "blosc": struct.pack("<BBBBIII", 2, 1, 33, 1, 2**31, 2**31, 20) + bytes(4),
}


@pytest.mark.parametrize("sharded", [False, True], ids=["chunk", "shard"])
@pytest.mark.parametrize("checksum", [False, True], ids=["plain", "crc"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_chunk_that_expands_to_more_than_its_array_says(bomb, checksum, sharded):
    codecs = [BYTES, ZarrExtension(name=bomb.split()[0]), *([CRC] if checksum else [])]
    content = BOMBS[bomb] + bytes(4 * checksum)
    shape = [ROWS, 4]
    if sharded:
        settings = {"chunk_shape": [ROWS, 4], "codecs": [*map(dataclasses.asdict, codecs)], "index_codecs": ["bytes"]}
        codecs = [ZarrExtension(name="sharding_indexed", configuration=settings)]
        content += struct.pack("<QQQQ", 0, len(content), 2**64 - 1, 2**64 - 1)
        shape = [2 * ROWS, 4]
    check_codecs(codecs)
    with pytest.raises(WrongField, match=r"must expand to at most [0-9,]+ bytes, as its array says; got "):
        check_expansion(np.frombuffer(content, np.uint8), codecs, shape, 4)


COMPRESSORS = [
    *(zarr.codecs.GzipCodec(level=level) for level in (0, 1, 9)),
    *(zarr.codecs.ZstdCodec(level=level, checksum=level == 3) for level in (-5, 0, 3, 19)),
    *(zarr.codecs.BloscCodec(cname=name, shuffle="shuffle") for name in ("lz4", "zstd", "zlib")),
]


@settings(deadline=None)
@given(
    compressor=st.sampled_from(COMPRESSORS),
    before=st.booleans(),
    behind=st.booleans(),
    shards=st.booleans(),
    rows=st.integers(1, 3000),
    kind=st.sampled_from(["zeros", "noise", "steps"]),
)
def test_every_chunk_that_zarr_writes_passes(tmp_path_factory, compressor, before, behind, shards, rows, kind):
    crc = zarr.codecs.Crc32cCodec()
    folder = tmp_path_factory.mktemp("array") / "a"
    array = zarr.create_array(
        folder,
        shape=(rows, 3),
        dtype="f4",
        chunks=(max(rows // 2, 1), 3),
        shards=(2 * max(rows // 2, 1), 3) if shards else None,
        compressors=[*([crc] if before else []), compressor, *([crc] if behind else [])],
        fill_value=-1,
    )
    noise = np.random.default_rng(0).standard_normal((rows, 3))
    values = {"zeros": np.zeros((rows, 3)), "noise": noise, "steps": np.arange(3.0 * rows).reshape(rows, 3) // 7}[kind]
    array[...] = values
    metadata = json.loads((folder / "zarr.json").read_text())
    files = record_files(folder)
    found = ForeignArray(folder, metadata, np.dtype("<f4"), (rows, 3), files)
    for name in {*files} - {"zarr.json"}:
        found.check_expansion(name, np.fromfile(folder / name, np.uint8))
    np.testing.assert_array_equal(found.read(0, rows), values.astype("f4"))


@pytest.mark.parametrize("compressor", [{"name": "zstd", "configuration": {"level": 3}}, {"name": "gzip"}])
def test_every_chunk_that_tensorstore_writes_passes(tmp_path, compressor):
    sharding = {
        "name": "sharding_indexed",
        "configuration": {"chunk_shape": [50, 3], "codecs": [{"name": "bytes"}, compressor]},
    }
    metadata = {
        "shape": [400, 3],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [200, 3]}},
        "codecs": [sharding],
    }
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/a"}, "metadata": metadata}
    values = np.random.default_rng(1).standard_normal((400, 3)).astype("f4")
    tensorstore.open(spec, create=True).result()[...] = values
    folder = tmp_path / "a"
    files = record_files(folder)
    written = json.loads((folder / "zarr.json").read_text())
    found = ForeignArray(folder, written, np.dtype("<f4"), (400, 3), files)
    assert len(files) == 3
    for name in {*files} - {"zarr.json"}:
        found.check_expansion(name, np.fromfile(folder / name, np.uint8))
    np.testing.assert_array_equal(found.read(0, 400), values)


@pytest.mark.parametrize(
    ("codecs", "message"),
    [
        ([BYTES, ZarrExtension(name="numcodecs.lzma")], r"`codecs` must be of transpose, .*; got 'numcodecs.lzma'"),
        ([BYTES, ZarrExtension(name="gzip"), "zstd"], "`codecs` must compress a chunk once; got bytes, gzip, zstd"),
        (
            [ZarrExtension(name="sharding_indexed", configuration={"chunk_shape": [1], "codecs": ["gzip"]})],
            "`codecs.sharding_indexed.index_codecs` is missing",
        ),
        (
            [
                ZarrExtension(
                    name="sharding_indexed",
                    configuration={"chunk_shape": [1], "codecs": [], "index_codecs": ["bytes", "gzip"]},
                )
            ],
            "`codecs.sharding_indexed` must have an index of bytes and crc32c",
        ),
    ],
)
def test_codecs_whose_chunks_cannot_be_measured_are_refused(codecs, message):
    with pytest.raises(WrongField, match=message):
        check_codecs(codecs)


@pytest.mark.parametrize("name", ["gzip", "zstd", "blosc"])
@settings(deadline=None)
@given(content=st.binary(max_size=200), prefix=st.sampled_from([b"", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08\0"]))
def test_any_other_bytes_are_refused_or_are_small(name, content, prefix):
    array = np.frombuffer(prefix + content, np.uint8)
    with contextlib.suppress(WrongField):
        check_expansion(array, [BYTES, ZarrExtension(name=name)], [10, 4], 4)


def test_a_file_that_would_fill_the_memory_is_one_line(tmp_path):
    """In a process that may hold little more than it does: 3 GB of zeros in a file of 100 KB."""
    folder = tmp_path / "a"
    zarr.create_array(
        folder, shape=(50, 4), dtype="f4", chunks=(50, 4), compressors=zarr.codecs.ZstdCodec(), fill_value=-1
    )[...] = np.ones((50, 4))
    (folder / "c/0/0").write_bytes(_zstd_of_repeated_bytes(24_000))
    script = f"""
import json, resource, sys
import numpy as np
from pathlib import Path
from distsae.errors import TornData
from distsae.store.attempt_files import record_files
from distsae.store.stored_array import StoredArray
root = Path({str(tmp_path)!r})
(root / "zarr.json").write_text('{{"zarr_format": 3, "node_type": "group"}}')
array = StoredArray(root, "a", np.dtype("<f4"), (50, 4), 50, record_files(root))
try:
    array.read()
except TornData as error:
    print(error, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, sep="\\n")
"""
    limit = 4 << 30
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    line, peak = done.stdout.splitlines()
    assert "is not a chunk of its array: a chunk must expand to at most" in line
    assert int(peak) < 1 << 20, "KiB"


def test_a_shard_whose_index_does_not_fit(tmp_path):
    folder = tmp_path / "a"
    zarr.create_array(folder, shape=(50, 4), dtype="f4", chunks=(10, 2), shards=(50, 4), fill_value=-1)[...] = 1
    metadata = json.loads((folder / "zarr.json").read_text())
    found = ForeignArray(folder, metadata, np.dtype("<f4"), (50, 4), record_files(folder))
    content = np.fromfile(folder / "c/0/0", np.uint8)
    with pytest.raises(TornData, match=r"must have an index of 164 bytes; got 100 bytes"):
        found.check_expansion("c/0/0", content[-100:])
    content[-164:-148].view("<u8")[:] = (1 << 10, 9)
    with pytest.raises(TornData, match="must end inside it; got one that ends at 1,"):
        found.check_expansion("c/0/0", content)
