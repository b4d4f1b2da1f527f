import pytest

from distsae.cli.main import main
from tests.reporting.features.samples import save_random_sae


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mc"
    save_random_sae(folder / "sae")
    return folder


def test_prints_what_to_open(run, tiny_store, tmp_path, capsys):
    words = ["features", str(run), "--store", str(tiny_store), "--max_rows", "100", "--device", "cpu"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"{run}/features/index.html\n"
    assert (run / "features" / "index.html").is_file()
    assert main([*words, "--out", str(tmp_path / "p"), "--format", "parquet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/p\n"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (["--format", "html"], "`format` (=html) must be of site, parquet"),
        (["--split", "test"], "`split` (=test) must be one of 'train', 'heldout'"),
        (["--max_rows", "0"], "`max_rows` (=0) must be at least 1"),
        (["--store", "/nothing"], "`store` (=/nothing) must be a store"),
        (["--model", "/nothing"], "`model` (=/nothing) must be an existing path"),
        (["--device", "cuda:99"], "`device` (=cuda:99)"),
        (["--widht", "3"], "unknown key `widht`"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(run, tiny_store, tmp_path, capsys, changes, error):
    words = [
        "features",
        str(run),
        "--store",
        str(tiny_store),
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "p"),
        *changes,
    ]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert error in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "p").exists()


def test_no_run_and_a_folder_of_something_else(run, tiny_store, tmp_path, capsys):
    assert main(["features", str(tmp_path / "none"), "--store", str(tiny_store)]) == 2
    assert "`run` (=" in capsys.readouterr().err
    (tmp_path / "thesis.tex").write_text("")
    assert main(["features", str(run), "--store", str(tiny_store), "--out", str(tmp_path)]) == 2
    assert "must be a new folder, or one of feature pages" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
