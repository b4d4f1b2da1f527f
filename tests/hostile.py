"""Values that a stranger may put into a file, the ways to put them there, and what must not happen then."""

from __future__ import annotations

import copy
import json
import resource
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from distsae.errors import DistsaeError

HUGE = (10**9, 10**15, 2**63, 10**400, -(10**15), 1e308, float("nan"), float("inf"), -0.0)
ODD = ("", "..", "../../x", "/etc/passwd", "a\0b", "\x1b[2J\x1b]0;x\x07", "\udc80", "x" * 5000, "1e99", "é\n")


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.sampled_from(HUGE),
    st.sampled_from(ODD),
    st.floats(),
    st.text(max_size=20),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=10,
    ),
    st.sampled_from([30, 300]).map(_nested),
    st.just([0] * 100_000),
    st.just({str(number): number for number in range(100)}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of every value inside a JSON value, of long lists only the first three."""
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value[:3])) if isinstance(value, list) else []
    for name, part in inner:
        yield (*path, name)
        yield from places(part, (*path, name))


@st.composite
def changed(draw: Any, content: Any) -> Any:
    """Draws a JSON value that differs from `content` in one to three places: removed, replaced, added, or moved."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        known = list(places(content))
        if not known:
            return content
        *path, name = draw(st.sampled_from(known))
        parent = content
        for part in path:
            parent = parent[part]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "repeat"])):
            case "replace":
                parent[name] = copy.deepcopy(draw(VALUES))
            case "remove":
                del parent[name]
            case "add":
                other = draw(st.sampled_from([*ODD, "later"]))
                if isinstance(parent, dict):
                    parent[other] = copy.deepcopy(draw(VALUES))
                else:
                    parent.append(copy.deepcopy(draw(VALUES)))
            case "repeat":
                parent[name] = [parent[name]] * draw(st.sampled_from([1, 2, 1000]))
    return content


@st.composite
def damaged(draw: Any, content: bytes) -> bytes:
    """Draws bytes that differ from `content`: cut off, flipped, inserted, or something else altogether."""
    at = draw(st.integers(0, len(content)))
    match draw(st.sampled_from(["cut", "flip", "insert", "other"])):
        case "cut":
            return content[:at]
        case "flip":
            return (
                content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
                if at < len(content)
                else b""
            )
        case "insert":
            return content[:at] + draw(st.binary(min_size=1, max_size=50)) + content[at:]
    return draw(
        st.sampled_from(
            [b"", b"{", b"[]", b"null", b"[" * 50_000, b"\xff\xfe\0", b"9" * 6000, b"PK\x05\x06" + b"\0" * 18]
        )
    )


def as_json(content: Any) -> bytes:
    """Returns a value as JSON text; lone surrogates and numbers that are none included."""
    return json.dumps(content).encode()


SECONDS = 10
GIB = 1 << 30
FEW, MANY = 8, 600

fuzz = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=[pytest.mark.heavy, pytest.mark.timeout(3600)])]
)
"""A few contents, or as many as make well over 10,000 in all tests together."""


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def try_all(examples, contents, put, read):
    """Puts drawn contents into a file and reads it; `read` may raise errors of distsae alone."""
    before = _peak()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(contents)
    def one(content):
        put(content)
        started = time.process_time()
        message = ""
        try:
            read()
        except DistsaeError as error:
            message = str(error)
        assert "\n" not in message
        assert time.process_time() - started < SECONDS
        assert _peak() - before < GIB

    one()
