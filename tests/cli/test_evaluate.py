"""`distsae evaluate`: help and wrong input; tests/evaluation has the rest."""

import pytest

from distsae.cli.main import main


def test_help_lists_keys_and_examples(capsys):
    assert main(["evaluate", "--help"]) == 0
    text = capsys.readouterr().out
    for expected in ("--store", "--max_tokens", "--corpus", "distsae evaluate runs/mc --store stores/gpt2"):
        assert expected in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "--store", "nowhere"], "`run` (=nowhere) must be an SAE folder or a finished run"),
        (["--store", "s"], "run"),
        (["r", "--store", "s", "--max_tokens", "0"], "`max_tokens` (=0) must be at least 1"),
        (["r", "--store", "s", "--max_token", "5"], "did you mean 'max_tokens'?"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert expected in lines[0]
