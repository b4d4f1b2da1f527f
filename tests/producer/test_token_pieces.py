import numpy as np
import pytest

from distsae.errors import TornData
from distsae.producer.token_pieces import TokenPieces, pieces_folder, tokens_kept
from distsae.store import location
from distsae.text import TokenisedDocuments


def _documents(first, count, seed=0, skipped=0):
    lengths = np.random.default_rng(seed + first).integers(0, 9, count)
    return TokenisedDocuments(
        first=first,
        token_ids=np.arange(lengths.sum(), dtype=np.int32) + first,
        lengths=lengths,
        digests=np.arange(first, first + count, dtype=np.uint64),
        skipped=skipped,
    )


def _same(found, expected):
    for name in ("token_ids", "lengths", "digests"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert (found.first, found.skipped) == (expected.first, expected.skipped)


@pytest.fixture(params=["folder", "bucket"])
def folder(request, tmp_path):
    if request.param == "folder":
        return tmp_path / "contexts" / ".pieces-a"
    return location(f"{request.getfixturevalue('object_store')}/{tmp_path.name}") / "contexts/.pieces-a"


def test_what_was_written_is_read_in_order_and_gone_on_from(folder):
    parts = [_documents(0, 50, skipped=2), _documents(50, 7), _documents(57, 90, skipped=1)]
    pieces = TokenPieces(folder, tokens=200)
    assert (pieces.documents, pieces.tokens, pieces.skipped) == (0, 0, 0)
    for part in parts[:2]:
        pieces.append(part)
    pieces.flush()
    again = TokenPieces(folder, tokens=200)
    assert (again.documents, again.tokens, again.skipped) == (57, pieces.tokens, 2)
    again.append(parts[2])
    assert tokens_kept(folder.parent) == again.tokens
    _same(TokenisedDocuments.joined(list(TokenPieces(folder).read())), TokenisedDocuments.joined(parts))
    again.remove()
    assert TokenPieces(folder).documents == 0
    assert tokens_kept(folder.parent) is None


def test_a_piece_is_written_when_there_is_enough_or_after_a_time(tmp_path):
    pieces = TokenPieces(tmp_path / "p", tokens=10**9, seconds=10**9)
    pieces.append(_documents(0, 50))
    assert not (tmp_path / "p").exists()
    pieces.flush()
    at_once = TokenPieces(tmp_path / "p", tokens=10**9, seconds=0)
    at_once.append(_documents(50, 5))
    assert len(list((tmp_path / "p").iterdir())) == 2
    at_once.flush()  # nothing is left
    assert len(list((tmp_path / "p").iterdir())) == 2
    with pytest.raises(ValueError, match="must begin with document 55"):
        at_once.append(_documents(54, 5))


def test_two_writers_at_once_do_no_harm(tmp_path):
    """One was suspended, its claim was taken over, and it wakes up."""
    suspended, taken_over = TokenPieces(tmp_path), TokenPieces(tmp_path)
    first, second, third = _documents(0, 50), _documents(50, 7), _documents(57, 30)
    taken_over.append(first)
    taken_over.append(second)
    taken_over.flush()
    suspended.append(first)
    suspended.flush()
    taken_over.append(third)
    taken_over.flush()
    suspended.append(second)
    suspended.flush()
    expected = TokenisedDocuments.joined([first, second, third])
    for pieces in (TokenPieces(tmp_path), taken_over):
        _same(TokenisedDocuments.joined(list(pieces.read())), expected)


def test_a_gap_ends_the_chain(tmp_path):
    pieces = TokenPieces(tmp_path)
    for part in (_documents(0, 5), _documents(5, 5), _documents(10, 5)):
        pieces.append(part)
        pieces.flush()
    sorted(tmp_path.iterdir())[1].unlink()
    (tmp_path / "notes.txt").write_text("not a piece")
    assert TokenPieces(tmp_path).documents == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_piece_is_named(tmp_path, damage):
    pieces = TokenPieces(tmp_path)
    pieces.append(_documents(0, 50))
    pieces.flush()
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[200] ^= 1
    file.write_bytes({"cut": content[:-30], "flipped": content, "empty": b"", "other": b"PK other"}[damage])
    with pytest.raises(TornData, match=rf"{file} is not what a producer wrote.*remove the folder"):
        list(TokenPieces(tmp_path).read())


def test_pieces_of_two_commits_do_not_mix(tmp_path):
    names = {pieces_folder(tmp_path / "copy", version).name for version in (None, "a" * 40, "b" * 40)}
    assert len(names) == 3
    assert all(name.startswith(".pieces-copy") for name in names)
