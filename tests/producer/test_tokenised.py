import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from distsae.errors import CannotContinue, TornData, WrongInput
from distsae.language_model import find_model
from distsae.producer import ProduceConfig
from distsae.producer import tokenised as tokenised_module
from distsae.producer.growing_array import GrowingArray
from distsae.producer.tokenised import Tokenised, tokenised_corpus
from distsae.progress import Progress
from distsae.store import Claims, collect_orphans
from distsae.text import cut_contexts, documents, pack


@pytest.fixture(scope="module")
def files(tiny_model_dir):
    return find_model(str(tiny_model_dir))


@pytest.fixture
def config(tiny_model_dir, tiny_corpus):
    return ProduceConfig(model=str(tiny_model_dir), corpus=str(tiny_corpus), hooks=("h",), out="o", context_length=32)


def test_packed_once_and_found_again(tmp_path, config, files, capsys):
    with Claims(tmp_path / "claims") as claims:
        first = tokenised_corpus(config, files, tmp_path, claims)
        again = tokenised_corpus(config, files, tmp_path, claims)
    assert capsys.readouterr().err.count("tokenising") == 1
    expected = pack(documents(config.corpus), files.tokenizer, 32)
    for found in (first, again):
        torch.testing.assert_close(found.contexts.token_ids, expected.token_ids)
        torch.testing.assert_close(found.contexts.document_id, expected.document_id)
        found.verify()
    assert first.fingerprint == again.fingerprint


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


def test_memory_does_not_grow_with_the_corpus(tmp_path, config, files, monkeypatch):
    monkeypatch.setattr(tokenised_module, "cut_contexts", partial(cut_contexts, documents_at_once=50))
    text = Path(config.corpus).read_text()

    def peak_memory(times):
        corpus = tmp_path / f"{times}.jsonl"
        corpus.write_text(text * times)
        with Claims(tmp_path / "claims") as claims:
            tracemalloc.start()
            try:
                tokenised_corpus(replace(config, corpus=str(corpus)), files, tmp_path, claims).verify()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    peak_memory(1)  # warms up
    assert peak_memory(12) < 1.5 * peak_memory(2)


@pytest.mark.parametrize("max_rows", [None, 3100])
def test_progress_is_shown(tmp_path, config, files, capsys, monkeypatch, max_rows):
    monkeypatch.setattr(tokenised_module, "Progress", lambda *args: Progress(*args, every=0.0))
    monkeypatch.setattr(tokenised_module, "cut_contexts", partial(cut_contexts, documents_at_once=50))
    with Claims(tmp_path / "claims") as claims:
        found = tokenised_corpus(replace(config, max_rows=max_rows), files, tmp_path, claims)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tokenise: ")]
    count = len(found.contexts) * 32
    assert lines[-1].startswith(f"tokenise: {count:,} tokens, " if max_rows is None else "tokenise: 3,200/3,200 tokens")
    assert len(lines) > (1 if max_rows is None else 0)


def test_one_process_packs_and_the_others_wait(tmp_path, config, files, capsys):
    found = []

    def produce():
        with Claims(tmp_path / "claims") as claims:
            found.append(tokenised_corpus(config, files, tmp_path, claims).fingerprint)

    threads = [threading.Thread(target=produce) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert capsys.readouterr().err.count("tokenising") == 1


def test_a_waiting_process_prints_one_line(tmp_path, config, files, monkeypatch):
    def wait():
        with Claims(tmp_path / "claims") as claims:
            tokenised_corpus(config, files, tmp_path, claims)

    lines = []
    monkeypatch.setattr(tokenised_module, "say", lines.append)
    with Claims(tmp_path / "claims") as claims:
        assert claims.take("contexts")
        thread = threading.Thread(target=wait)
        thread.start()
        while lines != [f"waiting for the process that tokenises {config.corpus}"]:
            assert thread.is_alive()
            time.sleep(0.01)
        claims.release("contexts")
        thread.join()
    assert len(list((tmp_path / "contexts").iterdir())) == 1


def test_changed_file_is_read_again(tmp_path, config, files):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"text": "%s"}' % ("the river " * 200))
    changing = replace(config, corpus=str(corpus))
    with Claims(tmp_path / "claims") as claims:
        first = tokenised_corpus(changing, files, tmp_path, claims).fingerprint
        corpus.write_text('{"text": "%s"}' % ("a bridge " * 200))
        os.utime(corpus, (1, 1))
        assert tokenised_corpus(changing, files, tmp_path, claims).fingerprint != first


def test_a_damaged_copy_is_found(tmp_path, config, files):
    with Claims(tmp_path / "claims") as claims:
        tokenised_corpus(config, files, tmp_path, claims)
        copy = next(tmp_path.glob("contexts/*/token_ids.npy"))
        content = bytearray(copy.read_bytes())
        content[-1] ^= 1
        copy.write_bytes(content)
        with pytest.raises(TornData, match="contexts/"):
            tokenised_corpus(config, files, tmp_path, claims).verify()


def test_too_little_text(tmp_path, config, files):
    corpus = tmp_path / "c.txt"
    corpus.write_text("the river")
    with Claims(tmp_path / "claims") as claims, pytest.raises(WrongInput, match="got 0"):
        tokenised_corpus(replace(config, corpus=str(corpus)), files, tmp_path, claims)
    assert list((tmp_path / "claims").iterdir()) == []
    assert list((tmp_path / "contexts").iterdir()) == []


def test_an_error_midway_in_the_text_leaves_nothing_behind(tmp_path, config, files):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text(Path(config.corpus).read_text() * 4 + '{"txt": "the river"}')
    with Claims(tmp_path / "claims") as claims, pytest.raises(WrongInput, match=r"c\.jsonl, line 801"):
        tokenised_corpus(replace(config, corpus=str(corpus)), files, tmp_path, claims)
    assert list((tmp_path / "contexts").iterdir()) == []


def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path, config, files, monkeypatch):
    monkeypatch.setattr(tokenised_module, "GrowingArray", lambda _, width: GrowingArray(Path("/dev/full"), width))
    with Claims(tmp_path / "claims") as claims, pytest.raises(CannotContinue, match="full disk"):
        tokenised_corpus(config, files, tmp_path, claims)
    assert list((tmp_path / "contexts").iterdir()) == []


_PACK = """
import sys
from pathlib import Path
from distsae.language_model import find_model
from distsae.producer import ProduceConfig, tokenised
from distsae.producer.tokenised import tokenised_corpus
from distsae.store import Claims

def cut_contexts(*args, cut=tokenised.cut_contexts):
    yield from cut(*args)
    sys.stdin.read()  # blocks, so that packing never ends

tokenised.cut_contexts = cut_contexts
config, root = ProduceConfig(**eval(sys.argv[1])), Path(sys.argv[2])
with Claims(root / "claims") as claims:
    tokenised_corpus(config, find_model(config.model), root, claims)
"""


def test_a_copy_of_a_killed_process_is_not_used(tmp_path, config, files, tiny_store):
    corpus = tmp_path / "long.jsonl"
    corpus.write_text(Path(config.corpus).read_text() * 200)
    long = replace(config, corpus=str(corpus))
    root = shutil.copytree(tiny_store, tmp_path / "store")
    others = set((root / "contexts").iterdir())
    process = subprocess.Popen([sys.executable, "-c", _PACK, repr(long.__dict__), str(root)], stdin=subprocess.PIPE)
    while not any(file.stat().st_size > 100_000 for file in (root / "contexts").glob(".*/*.npy")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = set((root / "contexts").iterdir()) - others
    assert left.name.startswith(".")
    long = replace(long, max_rows=20_000)
    with Claims(root / "claims") as claims:
        found = tokenised_corpus(long, files, root, claims)
    expected = pack(documents(long.corpus), files.tokenizer, 32, long.max_contexts)
    assert torch.equal(found.contexts.token_ids, expected.token_ids)
    assert collect_orphans(root).attempts == 1
    assert not left.exists()
    found.verify()


@pytest.mark.parametrize("array", [np.zeros((3, 0), "<i4"), np.zeros((3, 2), ">i4"), np.zeros(3, "<i4"), np.ones(())])
def test_a_copy_of_another_form_is_named(tmp_path, config, files, array):
    """Of no tokens, of another byte order, of other dimensions: what comes after it would end in any error."""
    with Claims(tmp_path / "claims") as claims:
        tokenised_corpus(config, files, tmp_path, claims)
        (file,) = tmp_path.glob("contexts/*/token_ids.npy")
        np.save(file, array)
        with pytest.raises(TornData, match=r"token_ids.npy (must have int32 numbers|is not what)"):
            tokenised_corpus(config, files, tmp_path, claims).verify()
