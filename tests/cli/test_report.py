"""`distsae report`: help, wrong input, and the path that it prints."""

from pathlib import Path

import pytest

from distsae.cli.main import main


def test_help_lists_examples(capsys):
    assert main(["report", "--help"]) == 0
    assert "distsae report runs/tc runs/mc runs/fc" in capsys.readouterr().out


def test_prints_the_path_of_the_page(tmp_path, capsys):
    run = tmp_path / "mc"
    run.mkdir()
    (run / "metrics.jsonl").write_text(
        '{"step": 1, "tokens": 64, "fvu": 0.5}\n{"step": 2, "tokens": 128, "fvu": 0.4}\n'
    )
    assert main(["report", str(run)]) == 0
    printed = Path(capsys.readouterr().out.strip())
    assert printed == run / "report" / "index.html"
    assert "FVU during training" in printed.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["nowhere"], [], ["nowhere", "--ot", "x"]])
def test_wrong_input_is_one_line_and_code_2(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
