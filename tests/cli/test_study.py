"""`distsae study` as a user meets it."""

from distsae.cli import study
from distsae.cli.main import main


def test_help_lists_the_keys_and_examples(capsys):
    assert main(["study", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--peers_python" in shown
    assert "distsae study --config study.yaml --dry_run" in shown


def test_arguments_reach_the_study(monkeypatch):
    seen = []
    monkeypatch.setattr("distsae.recipes.study.study.run_study", lambda config, _: seen.append(config) or 5)
    assert study.run(["--store", "s", "--out", "o", "--methods", "ablations", "--grid.k", "[16]"]) == 5
    assert (seen[0].methods, seen[0].grid) == ("ablations", {"k": [16]})


def test_wrong_input_is_one_line_and_code_two(tiny_store, tmp_path, capsys):
    arguments = ["--store", str(tiny_store), "--out", str(tmp_path / "o"), "--common.hook", "blocks.0.resid_post"]
    assert main(["study", *arguments, "--methods", "papers"]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
    assert main(["study", *arguments, "--common", "{hook: blocks.0.resid_post, batch_token: 5}"]) == 2
    assert "did you mean 'batch_tokens'" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tiny_store, tmp_path, capsys):
    arguments = ["--store", str(tiny_store), "--out", str(tmp_path / "o"), "--grid", "{d_sae: [64], k: [4]}"]
    assert main(["study", *arguments, "--common", "{hook: blocks.0.resid_post, steps: 8}", "--dry-run"]) == 0
    assert "8 members in 8 lines of the table" in capsys.readouterr().out
    assert not (tmp_path / "o").exists()
