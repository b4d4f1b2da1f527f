"""What a compressed chunk expands to, found out before anything expands it.

Codecs allocate what a chunk of a stranger names, or write on for as long as it lasts: a file of a megabyte may give
gigabytes. The size of a chunk is known from the metadata of its array. So the codecs that are read are named here, and
the bytes of each file are compared with that size: gzip by expanding it in pieces that are dropped, zstd by the headers
of its frames and blocks (RFC 8878), blosc by its own header, and shards by their index.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from distsae.checked_files import Between, WrongField, shown, typed
from distsae.store.crc32c import TRAILER

__all__ = ["ZarrExtension", "check_codecs", "check_expansion"]

_PIECE = 1 << 20
_MOST_OF_A_BLOCK = 128 << 10
"""Bytes that a compressed block of zstd holds at most, whatever its size in the file."""

_SLACK = 16
"""Times that blocks of zstd may together seem larger than the chunk, where no frame says how large it is."""

_NO_ENTRY = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class ZarrExtension:
    """A codec, a grid or the like, as Zarr writes it: a name and its settings."""

    name: str
    configuration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """Settings of a sharding codec that decide where its chunks are."""

    chunk_shape: list[Annotated[int, Between(1)]]
    codecs: list[ZarrExtension | str]
    index_codecs: list[ZarrExtension | str]
    index_location: str = "end"


def check_codecs(codecs: Sequence[ZarrExtension | str], at: str = "codecs") -> None:
    """Checks that chunks in these codecs can be measured before they are expanded.

    Raises:
        WrongField: one is none of those that are read, or they are in an order that nobody uses.
    """
    named = [_named(codec) for codec in codecs]
    known = ("transpose", "bytes", "sharding_indexed", *_EXPANDED, "crc32c")
    for codec in named:
        if codec.name not in known:
            raise WrongField(f"`{at}` must be of {', '.join(known)}; got {shown(codec.name)}")
    compressors = [codec.name for codec in named if codec.name in _EXPANDED]
    shards = [codec for codec in named if codec.name == "sharding_indexed"]
    if len(compressors) + len(shards) > 1:
        raise WrongField(f"`{at}` must compress a chunk once; got {', '.join(codec.name for codec in named)}")
    for shard in shards:
        facts = typed(ShardFacts, shard.configuration, f"{at}.sharding_indexed")
        check_codecs(facts.codecs, f"{at}.sharding_indexed.codecs")
        index = [_named(codec).name for codec in facts.index_codecs]
        if index not in (["bytes"], ["bytes", "crc32c"]) or facts.index_location not in ("start", "end"):
            raise WrongField(f"`{at}.sharding_indexed` must have an index of bytes and crc32c; got {shown(index)}")


def check_expansion(content: np.ndarray, codecs: Sequence[ZarrExtension | str], shape: list[int], item: int) -> None:
    """Checks that a chunk or shard does not expand to more than its array says.

    Args:
        content: the bytes of the file, uint8.
        codecs: codecs of the chunk in the order of writing, after `check_codecs`.
        shape: shape of the chunk.
        item: bytes of one element.

    Raises:
        WrongField: it does, or it is not in these codecs.
    """
    size = math.prod(shape) * item
    named = [_named(codec) for codec in codecs]
    for codec in reversed(named):
        if codec.name == "crc32c":
            content = content[:-TRAILER]
        elif codec.name in _EXPANDED:
            checksums = TRAILER * [other.name for other in named[: named.index(codec)]].count("crc32c")
            _EXPANDED[codec.name](content.data, size + checksums)
        elif codec.name == "sharding_indexed":
            facts = typed(ShardFacts, codec.configuration)
            for inner in _inner_chunks(content, facts, shape):
                check_expansion(inner, facts.codecs, facts.chunk_shape, item)


def _named(codec: ZarrExtension | str) -> ZarrExtension:
    return ZarrExtension(name=codec) if isinstance(codec, str) else codec


def _inner_chunks(content: np.ndarray, facts: ShardFacts, shape: list[int]) -> Iterator[np.ndarray]:
    """Yields the bytes of each chunk of a shard, by its index of offsets and lengths."""
    count = math.prod(shape) // math.prod(facts.chunk_shape)
    size = 16 * count
    whole = size + TRAILER * (len(facts.index_codecs) - 1)
    if whole > len(content):
        raise WrongField(f"a shard must have an index of {whole:,} bytes; got {len(content):,} bytes in all")
    start = 0 if facts.index_location == "start" else len(content) - whole
    endian = _named(facts.index_codecs[0]).configuration.get("endian", "little")
    index = np.frombuffer(content[start : start + size].tobytes(), ">u8" if endian == "big" else "<u8")
    for offset, length in index.reshape(-1, 2).tolist():
        if (offset, length) != (_NO_ENTRY, _NO_ENTRY):
            if offset + length > len(content):
                raise WrongField(f"a chunk of a shard must end inside it; got one that ends at {offset + length:,}")
            yield content[offset : offset + length]


def _check_gzip(content: memoryview, size: int) -> None:
    found = 0
    rest = bytes(content)
    while rest:
        member = zlib.decompressobj(wbits=31)
        while rest and not member.eof:
            try:
                found += len(member.decompress(rest, _PIECE))
            except zlib.error as error:
                raise WrongField(f"a chunk of gzip must be readable; got {shown(str(error))}") from None
            _compare(found, size)
            rest = member.unconsumed_tail
        rest = member.unused_data.lstrip(b"\0")  # padding


def _check_blosc(content: memoryview, size: int) -> None:
    if len(content) < 16:
        raise WrongField(f"a chunk of blosc must have a header of 16 bytes; got {len(content)} bytes")
    _compare(struct.unpack_from("<I", content, 4)[0], size)


def _check_zstd(content: memoryview, size: int) -> None:
    named = bound = 0
    try:
        for of_frame, of_blocks in _zstd_frames(content):
            named += of_frame or 0
            bound += of_blocks if of_frame is None else 0
            _compare(named, size)
            _compare(bound, _SLACK * size + _MOST_OF_A_BLOCK)
    except struct.error:
        raise WrongField("a chunk of zstd must be whole; got one that ends early") from None


def _zstd_frames(content: memoryview) -> Iterator[tuple[int | None, int]]:
    """Yields of each frame the size that its header names, or None, and the most that its blocks can hold."""
    at = 0
    while at < len(content):
        (magic,) = struct.unpack_from("<I", content, at)
        if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to skip
            at += 8 + struct.unpack_from("<I", content, at + 4)[0]
            continue
        if magic != 0xFD2FB528:
            raise WrongField(f"a chunk of zstd must begin with its magic number; got {magic:#x}")
        (flags,) = struct.unpack_from("<B", content, at + 4)
        single = flags >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        width = (single, 2, 4, 8)[flags >> 6]
        named = None
        if width:
            (named,) = struct.unpack_from({1: "<B", 2: "<H", 4: "<I", 8: "<Q"}[width], content, at)
            named += 256 if width == 2 else 0
        at, bound = _zstd_blocks(content, at + width)
        at += 4 * (flags >> 2 & 1)
        yield named, bound


def _zstd_blocks(content: memoryview, at: int) -> tuple[int, int]:
    """Returns where the blocks of a frame end, and the most that they can hold."""
    bound, last = 0, 0
    while not last:
        low, high = struct.unpack_from("<HB", content, at)
        last, kind = low & 1, low >> 1 & 3
        size = (low | high << 16) >> 3
        if kind == 3:
            raise WrongField("a block of zstd must be raw, repeated or compressed; got the reserved kind")
        bound += _MOST_OF_A_BLOCK if kind == 2 else size
        at += 3 + (1 if kind == 1 else size)
    return at, bound


def _compare(found: int, size: int) -> None:
    if found > size:
        raise WrongField(f"a chunk must expand to at most {size:,} bytes, as its array says; got {found:,}")


_EXPANDED: dict[str, Callable[[memoryview, int], None]] = {
    "gzip": _check_gzip,
    "zstd": _check_zstd,
    "blosc": _check_blosc,
}
