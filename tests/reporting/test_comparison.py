from distsae.reporting.comparison import comparison_figure
from distsae.reporting.runs import load_runs
from distsae.reporting.style import look


def test_runs_keep_their_colours_whichever_are_drawn(make_run):
    runs = load_runs([make_run("a", evaluated=False), make_run("b" * 40, seed=1), make_run("c", seed=2)])
    figure = comparison_figure(runs[1:], "fvu", "FVU", "Further left is better.")
    assert look(1).colour.lower() in figure.svg.lower()
    assert look(0).colour.lower() not in figure.svg.lower()
    assert "…" + "b" * 23 in figure.svg
    assert "c 0.2300, frozen 0.2340" in figure.svg


def test_a_name_may_hold_dollars(make_run):
    runs = load_runs([make_run("$lr_{3$"), make_run("$k$", seed=1)])
    svg = comparison_figure(runs, "fvu", "FVU", "Further left is better.").svg
    assert ">$lr_{3$</text>" in svg
    assert ">$k$</text>" in svg


def test_a_run_without_the_number(make_run):
    runs = load_runs([make_run("a"), make_run("b")])
    assert "a –, frozen –" in comparison_figure(runs, "nothing", "Nothing", "Nothing is drawn.").svg
