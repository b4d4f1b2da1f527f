"""The work of a study: what is tried again, and what is said of how far it is."""

from distsae.cli.parsing import from_keys
from distsae.errors import CannotContinue
from distsae.exit_codes import FAILED
from distsae.recipes.study.at_work import StudyAtWork
from distsae.recipes.study.outcomes import Outcomes
from distsae.recipes.study.study import run_study
from tests.recipes.study.samples import GRID, TC, Trainings, config, plan


def _work(store, out, trainings, **keys):
    found = plan(store, out, **keys)
    return StudyAtWork(found, Outcomes(found), lambda _: True, trainings.actions)


def test_a_member_that_failed_is_not_tried_twice_in_one_start(tiny_store, tmp_path):
    trainings = Trainings(codes=[1])
    assert _work(tiny_store, tmp_path / "o", trainings, methods=[TC], grid={**GRID, "lr": [1e-3]}).run() == FAILED
    assert len(trainings.trained) == 1


def test_an_evaluation_that_fails_is_tried_again_by_the_next_start(tiny_store, tmp_path, capsys):
    trainings = Trainings()
    good = trainings.evaluate

    def evaluate(evaluation):
        raise CannotContinue("the disk is full")

    trainings.evaluate = evaluate
    assert _work(tiny_store, tmp_path / "o", trainings, methods=[TC]).run() == FAILED
    assert "not evaluated: the disk is full" in capsys.readouterr().err
    trainings.evaluate = good
    assert _work(tiny_store, tmp_path / "o", trainings, methods=[TC]).run() == 0
    assert len(trainings.evaluated) == 2


def test_progress_counts_tokens_times_features(tiny_store, tmp_path, capsys):
    grid = [{**GRID, "lr": [1e-3], "seed": [0], "d_sae": [64]}, {**GRID, "lr": [1e-3], "seed": [0], "d_sae": [192]}]
    run_study(config(tiny_store, tmp_path / "o", methods=[TC], grid=grid), from_keys, Trainings().actions)
    shares = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines() if "[" in line and "] " in line]
    assert [text.split("%")[0] for text in shares] == ["0", "25", "100", "100"]


def test_members_are_split_to_fit(tiny_store, tmp_path):
    trainings = Trainings()
    _work(tiny_store, tmp_path / "o", trainings, methods=[TC], side_by_side=2).run()
    assert [len(names) for names in trainings.trained] == [2, 1, 1]
