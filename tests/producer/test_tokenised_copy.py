import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from distsae.errors import TornData
from distsae.producer.tokenised import tokenised_corpus
from distsae.producer.tokenised_copy import Tokenised
from distsae.store import Claims
from distsae.text import documents, pack


def _made_from(config, files):
    path = Path(config.corpus)
    source = [(path.name, path.stat().st_size, path.stat().st_mtime_ns)]
    return (source, files.tokenizer_digest, 32, True, None, "text", "train", None)


def test_a_copy_that_was_written_in_one_piece_is_found(tmp_path, config, files, capsys):
    """Its name is a digest of what it was made from, numpy wrote it, and its fingerprint was computed as a whole."""
    packed = pack(documents(config.corpus), files.tokenizer, 32)
    made_from = _made_from(config, files)
    folder = tmp_path / "contexts" / hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]
    folder.mkdir(parents=True)
    np.save(folder / "token_ids.npy", packed.token_ids.numpy())
    np.save(folder / "document_id.npy", packed.document_id.numpy())
    content = packed.token_ids.numpy().tobytes() + packed.document_id.numpy().tobytes()
    (folder / "fingerprint").write_text(hashlib.sha256(content).hexdigest())
    with Claims(tmp_path / "claims") as claims:
        found = tokenised_corpus(config, files, tmp_path, claims)
        found.verify()
        assert "tokenising" not in capsys.readouterr().err
        old = {path.name: path.read_bytes() for path in folder.iterdir()}
        shutil.rmtree(folder)
        assert tokenised_corpus(config, files, tmp_path, claims).fingerprint == found.fingerprint
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old  # the new copy has the same bytes


def test_a_fingerprint_does_not_depend_on_the_pieces_that_are_read(tmp_path, config, files):
    with Claims(tmp_path / "claims") as claims:
        found = tokenised_corpus(config, files, tmp_path, claims)
        other = Tokenised(found.contexts, hashlib.sha256(b"other contexts").hexdigest())
        for size in (1, 32 * 4 * 7, 1 << 40):
            found.verify(size)
            with pytest.raises(TornData, match="is damaged"):
                other.verify(size)


def test_a_damaged_copy_is_found(tmp_path, config, files):
    with Claims(tmp_path / "claims") as claims:
        tokenised_corpus(config, files, tmp_path, claims)
        copy = next(tmp_path.glob("contexts/*/token_ids.npy"))
        content = bytearray(copy.read_bytes())
        content[-1] ^= 1
        copy.write_bytes(content)
        with pytest.raises(TornData, match="contexts/"):
            tokenised_corpus(config, files, tmp_path, claims).verify()


@pytest.mark.parametrize("content", ["documents", "documents x", "both 3", "", "contexts 3"])
def test_what_is_held_out_is_checked(tmp_path, config, files, content):
    with Claims(tmp_path / "claims") as claims:
        tokenised_corpus(config, files, tmp_path, claims)
        (copy,) = (tmp_path / "contexts").iterdir()
        (copy / "heldout").write_text("documents 7")
        found = tokenised_corpus(config, files, tmp_path, claims)
        assert (found.heldout_by, found.heldout) == ("documents", 7)
        (copy / "heldout").write_text(content)
        with pytest.raises(TornData, match="heldout is not what a producer wrote; remove"):
            tokenised_corpus(config, files, tmp_path, claims)


@pytest.mark.parametrize("array", [np.zeros((3, 0), "<i4"), np.zeros((3, 2), ">i4"), np.zeros(3, "<i4"), np.ones(())])
def test_a_copy_of_another_form_is_named(tmp_path, config, files, array):
    """Of no tokens, of another byte order, of other dimensions: what comes after it would end in any error."""
    with Claims(tmp_path / "claims") as claims:
        tokenised_corpus(config, files, tmp_path, claims)
        (file,) = tmp_path.glob("contexts/*/token_ids.npy")
        np.save(file, array)
        with pytest.raises(TornData, match=r"token_ids.npy (must have int32 numbers|is not what)"):
            tokenised_corpus(config, files, tmp_path, claims).verify()
