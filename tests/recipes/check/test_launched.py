"""Launches: their output, their error in one line, and an end to those that hang."""

import time

import psutil
import pytest

from distsae.recipes.check.launched import run_launched

PROGRAMS = {
    "says": "print('done')",
    "fails": "raise ValueError('the cable is loose')",
    "refuses": "import sys; print('distsae: error: no such store', file=sys.stderr); sys.exit(2)",
    "hangs": "import time; time.sleep(600)",
}


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    for name, text in PROGRAMS.items():
        (tmp_path / f"check_that_{name}.py").write_text(text + "\n")
    import os

    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


def test_output_of_a_launch():
    launched = run_launched(["check_that_says"], 1, 120)
    assert (launched.problem, launched.output.strip()) == ("", "done")


@pytest.mark.parametrize(("name", "text"), [("fails", "the cable is loose"), ("refuses", "error: no such store")])
def test_the_error_is_one_line(name, text):
    problem = run_launched([f"check_that_{name}"], 1, 120).problem
    assert text in problem
    assert "\n" not in problem


def test_a_launch_that_hangs_is_ended_with_all_its_processes():
    older = set(psutil.Process().children(recursive=True))
    begun = time.monotonic()
    assert run_launched(["check_that_hangs"], 2, 15).problem == "it did not end within 15 s"
    assert time.monotonic() - begun < 100
    assert set(psutil.Process().children(recursive=True)) <= older
