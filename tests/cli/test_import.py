"""`distsae import`: help and wrong input; tests/export has the rest."""

import pytest

from distsae.cli.main import main
from tests.model.formats.samples import files_in, sample_sae


def test_help_lists_keys_and_examples(capsys):
    assert main(["import", "--help"]) == 0
    text = capsys.readouterr().out
    for expected in ("--out", "--store", "--hook", "--k", "distsae import downloads/topk --out saes/topk"):
        assert expected in text


def test_it_prints_what_the_sae_is(tmp_path, capsys):
    sample_sae().export("saelens", tmp_path / "there")
    assert main(["import", str(tmp_path / "there"), "--out", str(tmp_path / "o"), "--prepend_bos", "false"]) == 0
    first, last = capsys.readouterr().out.strip().splitlines()
    assert first == "jumprelu of 50 features, d_in 12, at blocks.3.resid_post"
    assert last == str(tmp_path / "o")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "--out", "o"], "must be an SAE folder or a finished run"),
        (["user/name", "--out", "o"], "`sae` (=user/name) must be a folder, or an SAE on the Hugging Face Hub"),
        (["there"], "out"),
        (["there", "--out", "there"], "got one with files in it"),
        (["there", "--out", "o", "--k", "0"], "`k` (=0) must be at least 1"),
        (["there", "--out", "o", "--prepend_bos", "maybe"], "prepend_bos"),
        (["gated", "--out", "o"], "got the architecture 'gated'"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample_sae().export("saelens", "there")
    sample_sae().export("saelens", "gated")
    file = tmp_path / "gated" / "cfg.json"
    file.write_text(file.read_text().replace('"architecture": "jumprelu"', '"architecture": "gated"', 1))
    assert main(["import", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert expected in lines[0]
    assert files_in(tmp_path) == ["gated", "there"]
