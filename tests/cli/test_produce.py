import subprocess
import sys

from distsae.cli.main import main
from distsae.store import Store


def test_from_the_command_line_with_a_config_file(tiny_model_dir, tiny_corpus, tmp_path):
    (tmp_path / "produce.yaml").write_text(
        f"model: {tiny_model_dir}\ncorpus: {tiny_corpus}\nhooks: [blocks.1.attn_out]\nmax_rows: 9999\nseed: 3\n"
    )
    out = tmp_path / "store"
    arguments = [
        "--config",
        str(tmp_path / "produce.yaml"),
        "--out",
        str(out),
        "--max_rows",
        "1500",
        "--unit_rows",
        "400",
    ]
    arguments += ["--hooks", "[blocks.0.resid_post, blocks.1.mlp_out]", "--context_length", "16", "--dtype", "bf16"]
    result = subprocess.run(
        [sys.executable, "-m", "distsae", "produce", *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "produce: 1,500/1,500 rows (100%)" in result.stderr
    store = Store.open(out)
    assert store.rows + store.heldout_rows == 1500
    assert store.attributes.hooks == ("blocks.0.resid_post", "blocks.1.mlp_out")
    assert store.attributes.seed == 3
    assert main(["produce", *arguments]) == 0


def test_wrong_input_is_one_line_and_code_2(tiny_model_dir, tiny_corpus, tmp_path, capsys):
    good = {"model": str(tiny_model_dir), "corpus": str(tiny_corpus), "hooks": "[blocks.0.resid_post]"}
    good["out"] = str(tmp_path / "store")
    for change, named in (
        ({"model": "./missing"}, "`model` (=./missing)"),
        ({"corpus": "/missing"}, "`corpus` (=/missing)"),
        ({"hooks": "[blocks.0.resid_pots]"}, "did you mean"),
        ({"dtype": "fp8"}, "fp8"),
        ({"contextlength": "3"}, "context_length"),
    ):
        argv = [
            part for key, value in {"context_length": "16", **good, **change}.items() for part in (f"--{key}", value)
        ]
        assert main(["produce", *argv]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert named in line
    assert not (tmp_path / "store").exists()
