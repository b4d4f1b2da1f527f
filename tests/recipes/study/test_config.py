"""The keys of a study and of its grid are refused in one line where they cannot be right."""

import pytest

from distsae.cli.parsing import from_keys, parse
from distsae.errors import WrongInput
from distsae.recipes.study import GridConfig, StudyConfig


def _parse(*argv):
    return parse(StudyConfig, argv, prog="distsae study", examples="", help="")


def test_the_default_grid_is_one_member():
    grid = GridConfig()
    assert (grid.k, grid.d_sae, grid.lr, grid.seed) == ((32,), (4096,), ("auto",), (0,))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"k": []}, r"`grid.k` must hold at least one value"),
        ({"lr": [1e-3, 0.001]}, r"`grid.lr` .* must hold each value once"),
        ({"k": [16, 65], "d_sae": [64]}, r"`grid.k` \(=65\) must be between 1 and `grid.d_sae` \(=64\)"),
        ({"kk": [16]}, r"unknown key `kk`"),
        ({"lr": ["fast"]}, r"`lr`"),
    ],
)
def test_wrong_grids(keys, message):
    with pytest.raises(WrongInput, match=message):
        from_keys(GridConfig, keys)


def test_every_key_can_be_given_on_the_command_line(tmp_path):
    found = _parse(
        *("--store", "s", "--out", str(tmp_path / "o"), "--methods", "[paper, {name: mine, aux: none, lr: [1e-3]}]"),
        *("--grid.k", "[16, 32]", "--common.steps", "500", "--common", "{sae: {k_anneal_share: 0.5}}", "--dry-run"),
    )
    assert found.methods == ("paper", {"name": "mine", "aux": "none", "lr": [1e-3]})
    assert found.grid == {"k": [16, 32]}
    assert found.common == {"sae": {"k_anneal_share": 0.5}}
    assert found.dry_run


def test_a_yaml_file_may_hold_several_grids(tmp_path):
    (tmp_path / "study.yaml").write_text(
        "store: s\nout: o\nmethods: ablations\ngrid:\n- {k: [8]}\n- {k: [32], seed: [0, 1], methods: [MC]}\n"
    )
    found = _parse("--config", str(tmp_path / "study.yaml"))
    assert [from_keys(GridConfig, grid).seed for grid in found.grid] == [(0,), (0, 1)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"processes": 0}, "`processes`"),
        ({"side_by_side": 0}, "`side_by_side`"),
        ({"memory_gb": -1.0}, "`memory_gb`"),
        ({"launch": "nowhere.yaml"}, "`launch` .* must be a file"),
        ({"peers_python": "nowhere/python"}, "`peers_python` .* must be a file"),
    ],
)
def test_wrong_keys(keys, message):
    with pytest.raises(WrongInput, match=message):
        StudyConfig(store="s", out="o", **keys)


def test_out_must_not_be_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WrongInput, match="`out`"):
        StudyConfig(store="s", out=str(tmp_path / "file"))
