"""The tokenised text of a store, finished or not, with anything in its files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from distsae.producer.token_pieces import TokenPieces
from distsae.producer.tokenised_copy import _fingerprint, load
from distsae.text import TokenisedDocuments
from tests.hostile import changed, damaged, fuzz, try_all


def _npy(array, header):
    """Returns an npy file with the data of an array, and with any other header."""
    text = repr(header).encode("latin-1", "replace").replace(b"\n", b" ") + b"\n"
    return b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + array.tobytes()


@fuzz
@pytest.mark.parametrize("file", ["token_ids.npy", "document_id.npy", "fingerprint", "commit", "heldout"])
def test_contexts(tmp_path, examples, file):
    """The tokenised text that producers keep in a store, with the fingerprint of whatever is in it."""
    array = np.arange(40, dtype="<i4").reshape(5, 8)
    for name in ("token_ids.npy", "document_id.npy"):
        np.save(tmp_path / name, array)
    (tmp_path / "fingerprint").write_text("f")
    (tmp_path / "commit").write_text("c")
    (tmp_path / "heldout").write_text("documents 2")
    header = {"descr": "<i4", "fortran_order": False, "shape": (5, 8)}
    shapes = st.lists(st.sampled_from([0, 1, 5, 8, 40, 10**15, -1, True, 0.5]), max_size=3).map(tuple)
    headers = changed(header) | shapes.map(lambda shape: {**header, "shape": shape})
    contents = damaged((tmp_path / file).read_bytes())
    if file.endswith("npy"):
        contents |= headers.map(lambda values: _npy(array, values))

    def read():
        found = load(tmp_path)
        if found is not None:
            found.fingerprint = _fingerprint(found.contexts)
            found.verify()

    try_all(examples, contents, (tmp_path / file).write_bytes, read)


@fuzz
def test_pieces_of_tokens(tmp_path, examples):
    """What an interrupted producer left of a corpus."""
    documents = TokenisedDocuments(
        first=0, token_ids=np.arange(12, dtype="<i4"), lengths=np.array([5, 7]), digests=np.array([1, 2], np.uint64)
    )
    pieces = TokenPieces(tmp_path)
    pieces.append(documents)
    pieces.flush()
    (file,) = tmp_path.iterdir()
    try_all(examples, damaged(file.read_bytes()), file.write_bytes, lambda: list(TokenPieces(tmp_path).read()))
