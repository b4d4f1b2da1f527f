import os
import re
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

import pytest
import torch

from distsae.errors import CannotContinue, WrongInput
from distsae.producer import packing as packing_module
from distsae.producer import tokenised as tokenised_module
from distsae.producer.growing_array import GrowingArray
from distsae.producer.token_pieces import TokenPieces, tokens_kept
from distsae.producer.tokenised import tokenised_corpus
from distsae.progress import Progress
from distsae.store import Claims, collect_orphans
from distsae.text import documents, pack, tokenised_documents


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


@pytest.mark.parametrize("heldout_by", ["documents", "contexts"])
@pytest.mark.parametrize("most", [None, 400])
def test_documents_are_not_joined_if_that_is_asked(tmp_path, config, files, heldout_by, most):
    apart = replace(config, join_documents=False, heldout_by=heldout_by, context_length=16, max_rows=most)
    with Claims(tmp_path / "claims") as claims:
        found = tokenised_corpus(apart, files, tmp_path, claims)
        joined = tokenised_corpus(replace(apart, join_documents=True), files, tmp_path, claims)
    assert found.fingerprint != joined.fingerprint
    document_id = found.contexts.document_id
    assert (document_id == document_id[:, :1]).all()
    assert not (joined.contexts.document_id == joined.contexts.document_id[:, :1]).all()
    texts = list(documents(config.corpus))
    for context, number in zip(found.contexts.token_ids[:40], document_id[:40, 0].tolist(), strict=True):
        alone = files.tokenizer(texts[number], add_special_tokens=False)["input_ids"]
        assert " ".join(map(str, context[1:].tolist())) in " ".join(map(str, [*alone, files.tokenizer.eos_token_id]))
    if most is None:
        expected = sum((len(files.tokenizer(text)["input_ids"]) + 1) // 15 for text in texts)
        assert len(found.contexts) == expected


def test_memory_does_not_grow_with_the_corpus(tmp_path, config, files, monkeypatch):
    monkeypatch.setattr(tokenised_module, "TokenPieces", partial(TokenPieces, tokens=5000))
    monkeypatch.setattr(tokenised_module, "tokenised_documents", partial(tokenised_documents, documents_at_once=20))
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
    monkeypatch.setattr(tokenised_module, "Progress", lambda *args, **options: Progress(*args, **options, every=0.0))
    monkeypatch.setattr(tokenised_module, "tokenised_documents", partial(tokenised_documents, documents_at_once=20))
    with Claims(tmp_path / "claims") as claims:
        found = tokenised_corpus(replace(config, max_rows=max_rows), files, tmp_path, claims)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tokenise: ")]
    text = len(found.contexts) * 31
    if max_rows is None:
        tokens = int(re.match(r"tokenise: ([\d,]+) tokens, ", lines[-1])[1].replace(",", ""))
        assert text <= tokens < text + 31
    else:
        assert lines[-1].startswith("tokenise: 3,100/3,100 tokens")
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


def test_too_little_text(tmp_path, config, files):
    corpus = tmp_path / "c.txt"
    corpus.write_text("the river")
    with Claims(tmp_path / "claims") as claims, pytest.raises(WrongInput, match="got 0"):
        tokenised_corpus(replace(config, corpus=str(corpus)), files, tmp_path, claims)
    assert list((tmp_path / "claims").iterdir()) == []
    assert list((tmp_path / "contexts").iterdir()) == []


def test_an_error_midway_in_the_text_keeps_what_was_tokenised(tmp_path, config, files, capsys):
    """A bad record is corrected, or left out, and the tokenising goes on."""
    corpus = tmp_path / "c.jsonl"
    good = Path(config.corpus).read_text() * 40
    bad = good + '{"txt": "the river"}\n'
    corpus.write_text(bad)
    config = replace(config, corpus=str(corpus))
    number = len(bad.splitlines())
    with Claims(tmp_path / "claims") as claims:
        with pytest.raises(WrongInput, match=rf"c\.jsonl, line {number:}.*--skip_bad_records"):
            tokenised_corpus(config, files, tmp_path, claims)
        (left,) = (tmp_path / "contexts").iterdir()
        kept = tokens_kept(tmp_path / "contexts")
        assert kept
        found = tokenised_corpus(replace(config, skip_bad_records=True), files, tmp_path, claims)
    said = capsys.readouterr().err
    assert f"{kept:,} tokens were kept" in said
    assert f"1 records without a text were left out of {corpus}" in said
    assert not left.exists()
    whole = tmp_path / "good.jsonl"
    whole.write_text(good)
    expected = pack(documents(str(whole)), files.tokenizer, 32)
    assert torch.equal(found.contexts.token_ids, expected.token_ids)
    assert torch.equal(found.contexts.document_id, expected.document_id)


@pytest.mark.parametrize("heldout_by", ["documents", "contexts"])
@pytest.mark.parametrize("max_rows", [None, 3100])
def test_an_interruption_anywhere_changes_nothing(tmp_path, config, files, monkeypatch, heldout_by, max_rows):
    config = replace(config, heldout_by=heldout_by, max_rows=max_rows, heldout_share=0.1, unit_rows=31 * 40)
    with Claims(tmp_path / "claims") as claims:
        expected = tokenised_corpus(config, files, tmp_path / "whole", claims)

        def broken(*args, **options):
            for number, batch in enumerate(tokenised_documents(*args, **options, documents_at_once=7)):
                if number == 2:
                    raise ConnectionError("gone")
                yield batch

        monkeypatch.setattr(tokenised_module, "tokenised_documents", broken)
        starts = 0
        while True:
            try:
                found = tokenised_corpus(config, files, tmp_path, claims)
                break
            except ConnectionError:
                starts += 1
    assert starts >= 1
    assert found.fingerprint == expected.fingerprint
    assert (found.heldout, found.heldout_by) == (expected.heldout, expected.heldout_by)
    assert torch.equal(found.contexts.document_id, expected.contexts.document_id)


def test_a_full_disk_is_named_and_leaves_no_half_copy(tmp_path, config, files, monkeypatch):
    monkeypatch.setattr(packing_module, "GrowingArray", lambda _, width: GrowingArray(Path("/dev/full"), width))
    with Claims(tmp_path / "claims") as claims, pytest.raises(CannotContinue, match="full disk"):
        tokenised_corpus(config, files, tmp_path, claims)
    assert [path.name.startswith(".pieces-") for path in (tmp_path / "contexts").iterdir()] == [True]


_PACK = """
import sys
from pathlib import Path
from distsae.language_model import find_model
from distsae.producer import ProduceConfig, token_pieces, tokenised
from distsae.producer.tokenised import tokenised_corpus
from distsae.store import Claims

def tokenised_documents(*args, tokenise=tokenised.tokenised_documents, **options):
    for number, batch in enumerate(tokenise(*args, **options, documents_at_once=50)):
        yield batch
        if number == 6:
            sys.stdin.read()  # blocks, so that tokenising never ends

class TokenPieces(token_pieces.TokenPieces):
    def __init__(self, folder):
        super().__init__(folder, tokens=10_000)

tokenised.tokenised_documents = tokenised_documents
tokenised.TokenPieces = TokenPieces
config, root = ProduceConfig(**eval(sys.argv[1])), Path(sys.argv[2])
with Claims(root / "claims") as claims:
    tokenised_corpus(config, find_model(config.model), root, claims)
"""


@pytest.mark.parametrize("finished_before", [True, False])
def test_a_killed_process_leaves_pieces_from_which_the_next_goes_on(
    tmp_path, config, files, tiny_store, capsys, finished_before
):
    corpus = tmp_path / "long.jsonl"
    corpus.write_text(Path(config.corpus).read_text() * 40)
    long = replace(config, corpus=str(corpus))
    root = tmp_path / "store"
    if finished_before:  # with other text; then nothing of this one is needed for the store
        shutil.copytree(tiny_store, root)
    others = set((root / "contexts").iterdir()) if finished_before else set()
    process = subprocess.Popen([sys.executable, "-c", _PACK, repr(long.__dict__), str(root)], stdin=subprocess.PIPE)
    while len(list((root / "contexts").glob(".pieces-*/0*.npz"))) < 2:
        assert process.poll() is None
        time.sleep(0.005)
    assert collect_orphans(root) == (0, 0, 0)  # a process has the claim
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = set((root / "contexts").iterdir()) - others
    kept = tokens_kept(root / "contexts")
    assert kept >= 20_000
    orphans = collect_orphans(root).attempts
    assert left.exists() != finished_before
    assert orphans == finished_before
    with Claims(root / "claims") as claims:
        found = tokenised_corpus(long, files, root, claims)
    if not finished_before:
        assert f"{kept:,} tokens were kept" in capsys.readouterr().err
    expected = pack(documents(long.corpus), files.tokenizer, 32)
    assert torch.equal(found.contexts.token_ids, expected.token_ids)
    assert not left.exists()
    found.verify()
