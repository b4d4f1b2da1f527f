import os
import threading

import pytest
import torch

from distsae.errors import TornData, WrongInput
from distsae.producer import ProduceConfig, documents, pack
from distsae.producer.language_model import find_model
from distsae.producer.tokenised import tokenised_corpus
from distsae.store import Claims


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


def test_others_wait_for_the_one_who_packs(tmp_path, config, files, capsys):
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


def test_changed_file_is_read_again(tmp_path, config, files):
    from dataclasses import replace

    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"text": "%s"}' % ("the river " * 200))
    changing = replace(config, corpus=str(corpus))
    with Claims(tmp_path / "claims") as claims:
        first = tokenised_corpus(changing, files, tmp_path, claims).fingerprint
        corpus.write_text('{"text": "%s"}' % ("a bridge " * 200))
        os.utime(corpus, (1, 1))
        assert tokenised_corpus(changing, files, tmp_path, claims).fingerprint != first


def test_damaged_copy_is_noticed(tmp_path, config, files):
    with Claims(tmp_path / "claims") as claims:
        tokenised_corpus(config, files, tmp_path, claims)
        copy = next(tmp_path.glob("contexts/*/token_ids.npy"))
        content = bytearray(copy.read_bytes())
        content[-1] ^= 1
        copy.write_bytes(content)
        with pytest.raises(TornData, match="contexts/"):
            tokenised_corpus(config, files, tmp_path, claims).verify()


def test_too_little_text(tmp_path, config, files):
    from dataclasses import replace

    corpus = tmp_path / "c.txt"
    corpus.write_text("the river")
    with Claims(tmp_path / "claims") as claims, pytest.raises(WrongInput, match="got 0"):
        tokenised_corpus(replace(config, corpus=str(corpus)), files, tmp_path, claims)
    assert list((tmp_path / "claims").iterdir()) == []
