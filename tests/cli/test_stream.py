"""`distsae stream` as a user meets it."""

from distsae.cli import stream
from distsae.cli.main import main


def test_help_lists_the_keys_and_examples(capsys):
    assert main(["stream", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--producers" in shown
    assert "distsae stream --config stream.yaml" in shown


def test_arguments_reach_the_stream(monkeypatch):
    seen = []
    monkeypatch.setattr("distsae.recipes.stream.stream.run_stream", lambda config, _: seen.append(config) or 5)
    assert stream.run(["--out", "o", "--train", "{sae.d_sae: 64}", "--produce.model", "m"]) == 5
    assert (seen[0].train, seen[0].produce) == ({"sae.d_sae": 64}, {"model": "m"})


def test_wrong_input_is_one_line_and_code_two(tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "o"), "--produce", "{model: m, corpus: c, hooks: [blocks.0.resid_post]}"]
    assert main(["stream", *arguments, "--train", "{batch_token: 64}"]) == 2
    err = capsys.readouterr().err
    assert err.strip().count("\n") == 0
    assert "did you mean 'batch_tokens'" in err
    assert not (tmp_path / "o").exists()
