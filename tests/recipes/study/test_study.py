"""A study from its start to its table, with trainings that only pretend."""

import json
import os
import signal

import pytest
import yaml

from distsae.cli.parsing import from_keys, parse
from distsae.errors import CannotContinue, WrongInput
from distsae.exit_codes import FAILED, INTERRUPTED, STOPPED
from distsae.recipes.study import StudyConfig
from distsae.recipes.study.study import run_study
from distsae.training.folder.lock import FolderLock
from tests.recipes.study.samples import COMMON, GRID, MC, TC, Trainings, config


def _run(store, out, trainings, **keys):
    return run_study(config(store, out, **keys), from_keys, trainings.actions)


def _table(out):
    return json.loads((out / "table.json").read_text())


def _names(*values):
    return [f"d_sae-64_k-4_lr-{rate}_seed-{seed}" for rate, seed in values]


def test_every_method_is_tried_with_each_rate_and_repeated_at_its_best(tiny_store, tmp_path, capsys):
    out, trainings = tmp_path / "study", Trainings()
    assert _run(tiny_store, out, trainings) == 0
    trials, later = _names((0.001, 0), (0.003, 0), (0.01, 0)), _names((0.003, 1))
    assert trainings.trained == [sorted(trials), later] * 2
    assert trainings.evaluated == [f"{m}/{name}" for m in ("TC", "MC") for name in _names((0.003, 0), (0.003, 1))]
    cells = _table(out)["cells"]
    assert [(cell["method"], cell["lr"], cell["best_at_edge"]) for cell in cells] == [
        ("TC", 0.003, None),
        ("MC", 0.003, None),
    ]
    assert cells[0]["figures"]["fvu"]["seeds"] == 2
    printed = capsys.readouterr()
    assert "| TC | 64 | 4 | 0.003 | 2 | 0.2500 ± 0.0000 |" in printed.out
    assert "best learning rate 0.003" in printed.err


def test_a_finished_study_does_nothing_again(tiny_store, tmp_path):
    out = tmp_path / "study"
    _run(tiny_store, out, Trainings())
    again = Trainings()
    assert _run(tiny_store, out, again) == 0
    assert (again.trained, again.evaluated) == ([], [])


def test_the_grid_may_grow(tiny_store, tmp_path):
    out = tmp_path / "study"
    _run(tiny_store, out, Trainings(best=5e-3))
    more = Trainings(best=2e-2)
    assert _run(tiny_store, out, more, grid={**GRID, "lr": [*GRID["lr"], 2e-2], "seed": [0, 1, 2]}) == 0
    assert more.trained == [_names((0.02, 0)), sorted(_names((0.02, 1), (0.02, 2)))] * 2
    assert _table(out)["cells"][0]["best_at_edge"] == "highest"


def test_a_member_that_diverges_is_marked_and_not_tried_again(tiny_store, tmp_path):
    out, trainings = tmp_path / "study", Trainings(diverging=[1e-2])
    assert _run(tiny_store, out, trainings) == 0
    cell = _table(out)["cells"][0]
    assert [rate["state"] for rate in cell["rates"]] == ["finished", "finished", "diverged"]
    assert cell["notes"] == ["diverged at 0.01"]
    assert "not finite at step 3" in (out / "table.md").read_text()
    again = Trainings()
    assert _run(tiny_store, out, again) == 0
    assert again.trained == []


def test_a_method_whose_every_rate_diverges_has_a_line_without_figures(tiny_store, tmp_path):
    out, trainings = tmp_path / "study", Trainings(diverging=GRID["lr"])
    assert _run(tiny_store, out, trainings, methods=[TC]) == 0
    assert trainings.evaluated == []
    cell = _table(out)["cells"][0]
    assert (cell["lr"], cell["figures"]) == (None, {})


def test_a_training_that_fails_does_not_stop_the_others_and_is_tried_again(tiny_store, tmp_path, capsys):
    out, trainings = tmp_path / "study", Trainings(codes=[1])
    assert _run(tiny_store, out, trainings) == FAILED
    assert [cell["lr"] for cell in _table(out)["cells"]] == [None, 0.003]
    assert "exit code 1" in (out / "table.md").read_text()
    again = Trainings()
    assert _run(tiny_store, out, again) == 0
    assert again.trained == [sorted(_names((0.001, 0), (0.003, 0), (0.01, 0))), _names((0.003, 1))]
    assert _table(out)["members"][0]["reason"] is None


@pytest.mark.parametrize(("code", "error"), [(STOPPED, SystemExit), (INTERRUPTED, KeyboardInterrupt)])
def test_a_stopped_training_stops_the_study_and_the_same_command_goes_on(tiny_store, tmp_path, capsys, code, error):
    out = tmp_path / "study"
    with pytest.raises(error):
        _run(tiny_store, out, Trainings(codes=[0, code]))
    assert "the same command goes on" in capsys.readouterr().err
    again = Trainings()
    assert _run(tiny_store, out, again) == 0
    assert again.trained[0] == _names((0.003, 1))


def test_a_signal_between_trainings_stops_the_study(tiny_store, tmp_path):
    trainings = Trainings()

    def evaluate(_):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 0)  # lets the handler run

    trainings.evaluate = evaluate
    with pytest.raises(SystemExit) as stopped:
        _run(tiny_store, tmp_path / "study", trainings)
    assert stopped.value.code == STOPPED
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_other_keys_of_the_evaluation_evaluate_all_members_again(tiny_store, tmp_path, capsys):
    out = tmp_path / "study"
    _run(tiny_store, out, Trainings(), methods=[TC])
    again = Trainings()
    _run(tiny_store, out, again, methods=[TC], evaluate={"max_tokens": 64})
    assert (again.trained, len(again.evaluated)) == ([], 2)
    assert "have changed" in capsys.readouterr().err


def test_checkpoints_of_finished_members_are_removed_unless_they_are_kept(tiny_store, tmp_path):
    for keep in (False, True):
        out = tmp_path / str(keep)
        _run(tiny_store, out, Trainings(), methods=[TC], keep_checkpoints=keep)
        assert len(list(out.glob("members/*/*/checkpoints"))) == (4 if keep else 0)


def test_the_record_is_a_config_of_the_same_study(tiny_store, tmp_path):
    out = tmp_path / "study"
    _run(tiny_store, out, Trainings(), methods=["paper"], evaluate={"max_tokens": 64}, grid={**GRID, "seed": [0]})
    found = parse(StudyConfig, ["--config", str(out / "study.yaml")], prog="", examples="", help="")
    again = Trainings()
    assert run_study(found, from_keys, again.actions) == 0
    assert (again.trained, again.evaluated) == ([], [])
    assert len(yaml.safe_load((out / "study.yaml").read_text())["methods"]) == 8


def test_a_dry_run_lists_the_members_and_writes_nothing(tiny_store, tmp_path, capsys):
    out, trainings = tmp_path / "study", Trainings()
    assert _run(tiny_store, out, trainings, dry_run=True) == 0
    assert trainings.trained == []
    assert not out.exists()
    printed = capsys.readouterr().out
    assert "8 members in 2 lines of the table: 32 steps, 2,048 tokens" in printed
    assert "3, then 1" in printed


def test_two_studies_in_one_folder_are_refused(tiny_store, tmp_path, monkeypatch):
    out = tmp_path / "study"
    out.mkdir()
    monkeypatch.setattr("distsae.training.folder.lock.FolderLock.__init__.__defaults__", (0.0,))
    other = FolderLock(out / ".lock")
    other.acquire()
    try:
        with pytest.raises(CannotContinue):
            _run(tiny_store, out, Trainings())
    finally:
        other.release()


def test_wrong_input_is_found_before_any_training(tiny_store, tmp_path):
    trainings = Trainings()
    with pytest.raises(WrongInput, match="method MC: unknown key `stepz`"):
        _run(tiny_store, tmp_path / "study", trainings, methods=[TC, {**MC, "stepz": 3}])
    with pytest.raises(WrongInput, match="`processes`"):
        _run(tiny_store, tmp_path / "study", trainings, processes=2, common={**COMMON, "mesh": {"feature": 4}})
    assert trainings.trained == []
    assert not (tmp_path / "study").exists()


def test_processes_split_the_features(tiny_store, tmp_path):
    trainings = Trainings()
    _run(tiny_store, tmp_path / "study", trainings, processes=2, methods=[TC])
    assert trainings.processes == [2, 2]
