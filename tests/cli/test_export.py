"""`distsae export`: help and wrong input; tests/export has the rest."""

import pytest

from distsae.cli.main import main
from tests.model.formats.samples import files_in, sample_sae


def test_help_lists_keys_and_examples(capsys):
    assert main(["export", "--help"]) == 0
    text = capsys.readouterr().out
    for expected in ("--to", "--out", "--dtype", "--license", "--repo", "distsae export runs/mc --to saelens"):
        assert expected in text


def test_it_prints_where_the_files_are(tmp_path, capsys):
    sample_sae().save(tmp_path / "sae")
    assert (
        main(["export", str(tmp_path / "sae"), "--to", "saelens", "--out", str(tmp_path / "o"), "--dtype", "bf16"]) == 0
    )
    assert capsys.readouterr().out.strip() == str(tmp_path / "o")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "--to", "saelens", "--out", "o"], "`run` (=nowhere) must be an SAE folder or a finished run"),
        (["sae", "--to", "sealens", "--out", "o"], "to"),
        (["sae", "--to", "saelens"], "`out` must be given with `to` (=saelens)"),
        (["sae", "--to", "sparsify", "--out", "o"], "which needs thresholds"),
        (["sae", "--to", "saelens", "--out", "sae"], "got one with files in it"),
        (["sae", "--to", "saelens", "--out", "o", "--dtype", "int8"], "dtype"),
        (["sae", "--to", "hub"], "`repo` must be given with `to` (=hub)"),
        (["sae", "--to", "hub", "--repo", "x"], "`repo` (=x) must be the name of a repository"),
        (["sae", "--to", "hub", "--repo", "user/name"], "must be a repository that you may write to"),
        (["sae", "--to", "saelens", "--outt", "o"], "did you mean 'out'?"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample_sae().save("sae")
    assert main(["export", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert expected in lines[0]
    assert files_in(tmp_path) == ["sae"]
    assert files_in(tmp_path / "sae") == ["config.json", "sae.safetensors"]
