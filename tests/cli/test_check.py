"""`distsae check`: help, wrong input, and the table that it prints."""

import pytest

from distsae.cli.main import main
from distsae.recipes.check.finding import Finding


def test_help_lists_examples(capsys):
    assert main(["check", "--help"]) == 0
    assert "distsae check --folder /scratch/me --json check.json" in capsys.readouterr().out


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("skipped", 0), ("failed", 1)])
def test_the_code_says_whether_something_failed(monkeypatch, tmp_path, capsys, state, code):
    parts = [Finding("exchange", state, "as it is")]
    monkeypatch.setattr("distsae.recipes.check.check._parts", lambda *given: parts)
    assert main(["check", "--folder", str(tmp_path)]) == code
    assert capsys.readouterr().out.splitlines()[0].split() == ["exchange", state, "as", "it", "is"]


@pytest.mark.parametrize(
    "arguments", [["--minutes", "-1"], ["--d_in", "x"], ["--device", "cuda:99"], ["--fodler", "x"]]
)
def test_wrong_input_is_one_line_and_code_2(arguments, capsys):
    assert main(["check", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
