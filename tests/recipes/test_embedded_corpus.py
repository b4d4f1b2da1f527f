import ast

import pytest

from distsae.errors import WrongInput
from distsae.recipes import embedded_corpus
from distsae.recipes.embedded_corpus import documents, is_validation, main, write_jsonl
from tests.recipes.conftest import write_corpus


def test_there_is_enough_text_for_the_demo(corpus):
    assert sum(map(len, corpus)) > 2_000_000  # about 4 characters a token: over 400,000 rows


def test_the_corpus_does_not_depend_on_the_hash_seed(corpus, tmp_path):
    assert write_corpus(tmp_path / "corpus.jsonl", "7") == corpus


def test_no_document_comes_twice(corpus):
    assert len(set(corpus)) == len(corpus)


def test_all_kinds_of_source_are_in_it(corpus):
    heads = {document.splitlines()[0] for document in corpus}
    assert "Help on module json:" in heads
    assert "Help on class JSONDecoder in module json.decoder:" in heads
    assert "Help on class dict in module builtins:" in heads
    assert any(head.startswith("Comments in module ") for head in heads)
    assert any(document.startswith('The "assert" statement') for document in corpus)


def test_tests_and_installed_packages_are_left_out(corpus):
    heads = [document.splitlines()[0] for document in corpus]
    assert not [head for head in heads if "module test." in head or "idlelib" in head or "site-packages" in head]


def test_documents_can_be_encoded(corpus):
    assert all(document.encode() for document in corpus)


def test_one_document_in_sixteen_is_for_validation(corpus):
    share = sum(map(is_validation, corpus)) / len(corpus)
    assert 0.04 < share < 0.09


def test_a_python_without_sources_is_refused(tmp_path):
    with pytest.raises(WrongInput, match="sources of its standard library"):
        list(documents(library=tmp_path))


def test_an_unfinished_file_does_not_get_its_name(tmp_path, monkeypatch):
    def broken():
        yield "first"
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded_corpus, "documents", broken)
    with pytest.raises(KeyboardInterrupt):
        write_jsonl(tmp_path / "corpus.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_comments_of_several_lines_are_prose_and_code_is_not():
    source = (
        "# The first line of a long explanation, which says why\n# the code below is as it is, and goes on.\nx = 1\n"
        "# y = {1: [2, 3], 4: (5, 6)}; z = y[1][0] + y[4][1] * 7\n# w = {8: [9, 10], 11: (12, 13)}; v = w[8][0]\n"
        "# short\n"
    )
    found = list(embedded_corpus._comments(source))
    assert found == ["The first line of a long explanation, which says why\nthe code below is as it is, and goes on."]


def test_a_class_is_a_document_of_its_own():
    tree = ast.parse(
        '"""M."""\ndef f(a, b):\n    """F."""\nclass C:\n    """C."""\n    def g(self):\n        """G."""\n'
    )
    assert list(embedded_corpus._tree_entries("m", tree)) == [
        ("Help on module m:", [("", "M."), ("f(a, b)", "F.")]),
        ("Help on class C in module m:", [("", "C."), ("g(self)", "G.")]),
    ]


def test_main_writes_and_returns_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_corpus, "documents", lambda: iter(["a", "b"]))
    assert main([str(tmp_path / "new" / "corpus.jsonl")]) == 0
    assert (tmp_path / "new" / "corpus.jsonl").read_text() == '{"text": "a"}\n{"text": "b"}\n'
