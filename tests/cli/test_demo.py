from distsae.cli import demo
from distsae.cli.main import main


def test_help_lists_the_keys_and_examples(capsys):
    assert main(["demo", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--max_rows" in shown
    assert "distsae demo --out /tmp/demo --fresh" in shown


def test_wrong_input_is_one_line_and_code_two(capsys, tmp_path):
    assert main(["demo", "--out", str(tmp_path / "new"), "--steps", "0"]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
    assert not (tmp_path / "new").exists()


def test_arguments_reach_the_demo(monkeypatch):
    seen = []
    monkeypatch.setattr("distsae.recipes.run_demo", lambda config: seen.append(config) or 5)
    assert demo.run(["--out", "elsewhere", "--fresh", "--k", "8"]) == 5
    assert (seen[0].out, seen[0].fresh, seen[0].k) == ("elsewhere", True, 8)
