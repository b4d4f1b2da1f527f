import dataclasses
import json
import sys
from pathlib import Path

import pytest

from distsae import __version__
from distsae.errors import WrongInput
from distsae.recipes import DemoConfig, Stage, demo, run_demo, summary
from distsae.recipes.demo_stages import RUNS

WRITE = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text() + 'x' if p.exists() else 'x')"


def numbers(shift):
    names = ("fvu", "loss_recovered_zero", "l0", "dead_share", "features_per_token_std")
    return {name: index + shift for index, name in enumerate(names)} | {
        "frozen_rule": {"l0": 15.5, "fvu": None, "dead_share": 0.25}
    }


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A demo of two short stages; returns its folder, and a dict with the exit code and the output of the second."""
    out = tmp_path / "demo"
    control = {"code": 0, "write": True}

    def stages(config):
        first = Stage("first", "First", (sys.executable, "-c", WRITE, str(out / "one")), out / "one")
        ending = f"import sys; sys.exit({control['code']})"
        body = f"{WRITE}; {ending}" if control["write"] else ending
        second = Stage("second", "Second", (sys.executable, "-c", body, str(out / "two")), out / "two")
        return [first, second]

    monkeypatch.setattr(demo, "demo_stages", stages)
    for index, run in enumerate(RUNS):
        folder = out / "runs" / run
        folder.mkdir(parents=True)
        (folder / "evaluation.json").write_text(json.dumps(numbers(index)))
    (out / "demo.json").write_text(json.dumps({"settings": demo_settings(), "seconds": {}}))
    return out, control


def demo_settings():
    settings = dataclasses.asdict(DemoConfig()) | {"distsae": __version__}
    return {key: value for key, value in settings.items() if key not in ("out", "fresh")}


def test_commands_are_shown_before_they_run_and_the_table_comes_last(small, capfd):
    out, _ = small
    assert run_demo(DemoConfig(out=str(out))) == 0
    shown = capfd.readouterr().out
    assert shown.index("[1/2] First") < shown.index(f"{sys.executable} -c") < shown.index("[2/2] Second")
    assert shown.index("[2/2] Second") < shown.index("mutual choice") < shown.index(f"report: {out / 'two'}")


def test_finished_stages_are_not_run_again(small, capfd):
    out, _ = small
    run_demo(DemoConfig(out=str(out)))
    assert run_demo(DemoConfig(out=str(out))) == 0
    assert (out / "one").read_text() == (out / "two").read_text() == "x"
    assert capfd.readouterr().out.count("finished before") == 2


def test_a_failing_stage_gives_one_line_and_its_exit_code_and_the_next_run_continues(small, capfd):
    out, control = small
    control["code"] = 7
    assert run_demo(DemoConfig(out=str(out))) == 7
    error = capfd.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "second" in error
    assert "exit code 7" in error
    control["code"] = 0
    assert run_demo(DemoConfig(out=str(out))) == 0
    assert (out / "one").read_text() == "x"
    assert (out / "two").read_text() == "xx"


def test_a_killed_stage_gives_the_exit_code_of_a_shell(small):
    out, control = small
    control["code"] = "__import__('os').kill(__import__('os').getpid(), 9)"
    assert run_demo(DemoConfig(out=str(out))) == 128 + 9


def test_a_stage_without_its_product_has_failed(small, capfd):
    out, control = small
    control["write"] = False
    assert run_demo(DemoConfig(out=str(out))) == 1
    assert "ended without" in capfd.readouterr().err


def test_a_product_that_was_removed_is_made_again(small):
    out, _ = small
    run_demo(DemoConfig(out=str(out)))
    (out / "one").unlink()
    run_demo(DemoConfig(out=str(out)))
    assert (out / "one").read_text() == "x"


def test_other_settings_are_refused_without_fresh(small):
    out, _ = small
    with pytest.raises(WrongInput, match=r"`steps` \(=50\)"):
        run_demo(DemoConfig(out=str(out), steps=50))


def test_fresh_removes_what_the_demo_made_and_nothing_else(tmp_path):
    out = tmp_path / "demo"
    (out / "runs").mkdir(parents=True)
    (out / "demo.json").write_text("{}")
    (out / "notes.txt").write_text("kept")
    demo._remove_earlier(out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path, fresh):
    (tmp_path / "store").mkdir()
    with pytest.raises(WrongInput, match="`out`"):
        run_demo(DemoConfig(out=str(tmp_path), fresh=fresh))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_the_report_needs_its_packages_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WrongInput, match=r"distsae\[report\]"):
        run_demo(DemoConfig(out=str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


def test_the_table_has_a_row_for_each_run(small):
    lines = summary(small[0]).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["run", "token choice", "mutual choice", "feature choice"]
    assert lines[2].split()[2:] == ["1", "2", "3", "4", "5", "15.5", "-", "0.25"]


def test_a_shown_command_can_be_pasted():
    shown = demo._shown(("python", "-m", "distsae", "--hooks", "[a b]"))
    assert shown.startswith("$ ")
    assert "ACCELERATE_USE_CPU=true" in shown
    assert "\\\n    --hooks '[a b]'" in shown


def test_processes_communicate_over_loopback_unless_another_device_is_set(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    assert "GLOO_SOCKET_IFNAME" not in demo._environment()
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    assert ("GLOO_SOCKET_IFNAME" in demo._environment()) == Path("/sys/class/net/lo").exists()
