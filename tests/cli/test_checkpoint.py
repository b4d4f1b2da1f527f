"""`distsae checkpoint list|info|verify` on a trained run, whole and damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from distsae import __version__
from distsae.checkpoint import newest
from distsae.checkpoint import threaded_verifying as full_check
from distsae.checkpoint.file_digest import compare
from distsae.checkpoint.manifest import read_manifest
from distsae.cli.main import main
from distsae.store import Store
from tests.checkpoint import bomb

_REPLICATED, _ROWS = "replicated.safetensors", "feature-00000-of-00001.safetensors"
_UUID = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def trained(tiny_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    keys = {
        "store": tiny_store,
        "out": out,
        "hook": "blocks.0.resid_post",
        "steps": 9,
        "batch_tokens": 128,
        "sae.d_sae": 48,
        "sae.k": 4,
        "finetune_fc_from": 0.5,
        "checkpoint.every": 3,
        "checkpoint.keep_last": 3,
        "wandb": "off",
    }
    assert main(["train", *(word for name, value in keys.items() for word in (f"--{name}", str(value)))]) == 0
    return out


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run that a test may damage, with checkpoints of steps 3, 6 and 9."""
    return shutil.copytree(trained, tmp_path / "run")


def _flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _json(capsys, *arguments):
    assert main(["checkpoint", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_list_of_a_whole_run(run, capsys):
    assert main(["checkpoint", "list", str(run)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == str(run / "checkpoints")
    assert lines[1].split() == ["step", "bytes", "files", "written", "looks"]
    assert [line.split()[0] for line in lines[2:5]] == ["3", "6", "9"]
    assert lines[2].endswith("  whole")
    assert lines[4].endswith("  whole  <- latest, newest whole")
    assert len(lines) == 6
    listing = _json(capsys, "list", run / "checkpoints")
    assert [found["step"] for found in listing["checkpoints"]] == [3, 6, 9]
    assert all(found["looks_whole"] and found["files"] == 4 for found in listing["checkpoints"])
    assert (listing["latest"], listing["newest_whole"]) == ("step-00000009", "step-00000009")
    assert listing["bytes"] == sum(found["bytes"] for found in listing["checkpoints"])
    assert lines[5] == f"3 checkpoints, {listing['bytes']:,} bytes"


def test_list_names_what_is_wrong_and_what_is_left(run, capsys):
    folder = run / "checkpoints"
    (folder / "step-00000009" / _ROWS).write_bytes(b"")
    (folder / "step-00000009" / _REPLICATED).unlink()
    _flip(folder / "step-00000006" / _ROWS)  # only `verify` can see it
    shutil.copytree(folder / "step-00000003", folder / f".step-00000012-{_UUID}")
    shutil.copytree(folder / "step-00000003", folder / f".abandoned-step-00000012-{_UUID}")
    (folder / "latest").write_text("step-00000012\n")
    assert main(["checkpoint", "list", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].endswith("  whole  <- newest whole")
    size = read_manifest(folder / "step-00000009").files[_ROWS].bytes
    assert lines[4].endswith(f"  damaged: {_ROWS} has 0 bytes, its manifest says {size} and 1 more")
    assert lines[5].startswith(f".abandoned-step-00000012-{_UUID}: ")
    assert lines[5].endswith("yours to delete")
    assert lines[6].startswith(f".step-00000012-{_UUID}: ")
    assert lines[7] == f"{folder / 'latest'} names 'step-00000012', which is not there"
    assert lines[8].startswith("3 checkpoints and 2 leftovers, ")
    listing = _json(capsys, "list", run)
    assert [left["word"] for left in listing["leftovers"]] == ["abandoned", "saving"]
    assert listing["newest_whole"] == "step-00000006"
    assert listing["checkpoints"][2]["faults"][1] == f"{folder / 'step-00000009' / _REPLICATED} is missing"


def test_info_shows_what_a_checkpoint_holds(run, tiny_store, capsys):
    info = _json(capsys, "info", run)
    assert (info["step"], info["tokens"]) == (9, 9 * 128)
    assert info["checkpoint"] == str(run / "checkpoints" / "step-00000009")
    assert info["phase"] == "Feature Choice, since step 5"
    seconds = read_manifest(run / "checkpoints" / "step-00000009").facts["meter"]["seconds"]
    assert info["training_seconds"] == round(seconds, 3)
    assert info["distsae_version"] == __version__
    assert (info["store"], info["store_fingerprint"]) == (str(tiny_store), Store.open(tiny_store).fingerprint)
    assert info["config"]["sae"]["d_sae"] == 48
    assert (info["looks_whole"], info["faults"], info["passed_over"], info["not_part_of_it"]) == (True, [], [], [])
    tensors = {tensor["name"]: tensor for tensor in info["tensors"]}
    assert tensors["W_enc"] == {"name": "W_enc", "dtype": "F32", "shape": [48, 32], "bytes": 6144, "files": [_ROWS]}
    assert tensors["b_dec"]["files"] == [_REPLICATED]
    assert {"adam.exp_avg.W_dec", "quotas.price", "firing.matches"} <= tensors.keys()
    assert main(["checkpoint", "info", str(run)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["tokens", "1,152"] in lines
    assert ["config.sae.d_sae", "48"] in lines
    assert ["config.optimizer.state", "fp32"] in lines
    assert ["config.mesh.feature", "1"] in lines
    assert ["W_enc", "F32", "48", "x", "32", "6,144", "1"] in lines
    assert ["all", f"{sum(tensor['bytes'] for tensor in info['tensors']):,}", "2"] in lines


def test_info_of_a_step_and_of_a_checkpoint(run, capsys):
    three = run / "checkpoints" / "step-00000003"
    by_step, by_path = _json(capsys, "info", run, "--step", 3), _json(capsys, "info", three)
    assert by_step == by_path
    assert by_step["phase"] == "Mutual Choice; Feature Choice from step 5 on"
    (three / _ROWS).unlink()
    assert _json(capsys, "info", three)["faults"] == [f"{three / _ROWS} is missing"]
    (three / "manifest.json").unlink()
    assert main(["checkpoint", "info", str(three)]) == 1
    assert capsys.readouterr().err == f"distsae: error: {three / 'manifest.json'} is missing\n"


def test_info_passes_over_what_does_not_look_whole(run, capsys):
    (run / "checkpoints" / "step-00000009" / _ROWS).unlink()
    info = _json(capsys, "info", run)
    assert info["step"] == 6
    assert info["passed_over"] == [f"step-00000009/{_ROWS} is missing"]
    assert main(["checkpoint", "info", str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"passed over: step-00000009/{_ROWS} is missing\n")


def test_verify_a_whole_run(run, capsys):
    size = {step: sum(r.bytes for r in read_manifest(path).files.values()) for step, path in _checkpoints(run).items()}
    assert main(["checkpoint", "verify", str(run)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{_checkpoints(run)[9]}: 2 files, {size[9]:,} bytes: sound",
        "`--resume auto` takes step-00000009",
    ]
    assert f"verify: {size[9]:,}/{size[9]:,} bytes (100%)" in err
    assert main(["checkpoint", "verify", str(run), "--all"]) == 0
    out, err = capsys.readouterr()
    assert out.count(": sound") == 3
    assert f"{sum(size.values()):,} bytes (100%)" in err
    assert main(["checkpoint", "verify", str(run), "--step", "3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(str(_checkpoints(run)[3]))
    assert out[1] == "`--resume auto` tries step-00000009 first, which was not read now"


def _checkpoints(run: Path) -> dict[int, Path]:
    return {step: run / "checkpoints" / f"step-0000000{step}" for step in (3, 6, 9)}


@pytest.mark.parametrize("name", [_ROWS, _REPLICATED, "manifest.json", "manifest.json.sha256"])
@pytest.mark.parametrize("damage", ["truncated", "deleted", "flipped"])
def test_verify_names_the_damaged_file_and_what_is_resumed_from(run, name, damage, capsys):
    file = _checkpoints(run)[9] / name
    if damage == "deleted":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        _flip(file)
    assert main(["checkpoint", "verify", str(run)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert str(_checkpoints(run)[9]) in lines[0]
    assert name in lines[0]
    assert lines[1].startswith(f"{_checkpoints(run)[9]}: 1 fault in ")
    assert lines[2].startswith(f"{_checkpoints(run)[6]}: ")
    assert lines[2].endswith(": sound")
    assert lines[3:] == ["`--resume auto` takes step-00000006"]
    assert newest(run / "checkpoints")[0] == _checkpoints(run)[6]
    assert main(["checkpoint", "verify", str(_checkpoints(run)[9])]) == 1
    assert main(["checkpoint", "verify", str(run), "--step", "6"]) == 0
    assert main(["checkpoint", "verify", str(run), "--all"]) == 1


def test_verify_names_a_checkpoint_that_has_disappeared(run, capsys):
    nine = _checkpoints(run)[9]
    shutil.rmtree(nine)
    assert main(["checkpoint", "verify", str(run)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{nine} is not there, though {run / 'checkpoints' / 'latest'} names it"
    assert lines[1].endswith(": sound")
    assert lines[2] == "`--resume auto` takes step-00000006"
    assert main(["checkpoint", "verify", str(run), "--step", "6"]) == 0


def test_verify_all_names_every_fault(run, capsys):
    for path in _checkpoints(run).values():
        _flip(path / _ROWS)
        (path / _REPLICATED).unlink()
    assert main(["checkpoint", "verify", str(run), "--all"]) == 1
    out = capsys.readouterr().out
    for path in _checkpoints(run).values():
        assert f"{path / _ROWS} is damaged: its SHA-256 is not the one in its manifest\n" in out
        assert f"{path / _REPLICATED} is missing\n" in out
    assert out.endswith("`--resume auto` finds no sound checkpoint, and does not start anew over damaged ones\n")
    assert main(["checkpoint", "info", str(run)]) == 1
    assert "none of 3 checkpoints looks whole" in capsys.readouterr().err


def test_a_checkpoint_that_is_pruned_meanwhile_is_not_called_sound(run, capsys, monkeypatch):
    six = _checkpoints(run)[6]

    def compare_after_pruning(*arguments):
        shutil.rmtree(six, ignore_errors=True)
        return compare(*arguments)

    monkeypatch.setattr(full_check, "compare", compare_after_pruning)
    assert main(["checkpoint", "verify", str(run), "--step", "6"]) == 1
    assert capsys.readouterr().out.startswith(f"{six}: deleted meanwhile\n")
    assert main(["checkpoint", "verify", str(run), "--all"]) == 0
    assert capsys.readouterr().out.count(": sound") == 2


def test_bombs_are_named_or_ignored_and_never_executed(run, capsys, tmp_path):
    marker = tmp_path / "exploded"
    bomb.plant_as_own_file(_checkpoints(run)[9], _REPLICATED, bomb.torch_archive(marker))
    bomb.plant_with_digests(_checkpoints(run)[6], "manifest.json", bomb.raw(marker))
    (_checkpoints(run)[3] / "data.pkl").write_bytes(bomb.raw(marker))
    assert main(["checkpoint", "list", str(run)]) == 0
    assert "damaged: manifest.json is not the manifest of a checkpoint" in capsys.readouterr().out
    assert main(["checkpoint", "verify", str(run)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert str(_checkpoints(run)[9] / _REPLICATED) in lines[0]
    assert str(_checkpoints(run)[6] / "manifest.json") in lines[2]
    assert lines[-1] == "`--resume auto` takes step-00000003"
    assert _json(capsys, "info", run, "--step", 3)["not_part_of_it"] == ["data.pkl"]
    assert main(["checkpoint", "info", str(run), "--step", "6"]) == 1
    assert not marker.exists()


def test_wrong_input_is_one_line_and_code_2(run, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.yaml").write_text("seed: 0\n")
    shutil.copytree(run, tmp_path / "sweep" / "k-4")
    leftovers = tmp_path / "left"
    (leftovers / "checkpoints" / f".step-00000003-{_UUID}").mkdir(parents=True)
    cases = [
        (["lsit", "x"], "did you mean 'list'?"),
        (["list", tmp_path / "nowhere"], "got nothing there"),
        (["info", tmp_path / "new"], "must have checkpoints; got none yet"),
        (["verify", tmp_path / "sweep"], "the folder of a sweep, with k-4"),
        (["verify", run, "--step", "7"], "choose the nearest: 6 or 9"),
        (["info", run, "--step", "1"], "choose the nearest: 3"),
        (["info", _checkpoints(run)[3], "--step", "3"], "must be left out where `run`"),
        (["verify", _checkpoints(run)[3], "--all"], "`all` (=true) must be given for a whole run"),
        (["verify", run, "--all", "--step", "3"], "`all` (=true) must be given for a whole run"),
        (["list", _checkpoints(run)[3]], f"give {run / 'checkpoints'}"),
        (["verify", leftovers], "got none; use `distsae checkpoint list` to see what is left"),
        (["verify", run, "--stpe", "3"], "unknown key `stpe`; did you mean 'step'?"),
    ]
    for argv, expected in cases:
        assert main(["checkpoint", *map(str, argv)]) == 2, argv
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1), argv
        assert expected in err, argv
    assert main(["checkpoint"]) == 2
    assert main(["checkpoint", "--help"]) == 0
    assert main(["checkpoint", "list", str(leftovers)]) == 0
    assert "0 checkpoints and 1 leftover, 0 bytes" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["list", "info", "verify"])
def test_every_action_has_help_with_examples(action, capsys):
    assert main(["checkpoint", action, "--help"]) == 0
    assert f"distsae checkpoint {action} runs/mc" in capsys.readouterr().out.partition("examples:")[2]
