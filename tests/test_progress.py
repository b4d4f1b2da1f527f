"""Progress for the user: plain lines where there is no terminal, and nothing on other ranks."""

import io
import sys

import pytest

from distsae.progress import Progress, is_main_process, printable, say, show


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_plain_lines_from_time_to_time(capsys, clock):
    with Progress(100, "train", "steps", done=40, every=10.0) as progress:
        for _ in range(60):
            clock[0] += 0.5
            progress.advance(0, loss=0.25)  # as in the training loop: values first, then the work
            progress.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("train: 59/100 steps (59%), 2 steps/s, ")
    assert lines[-1] == "train: 100/100 steps (100%), 2 steps/s, 0 s left loss 0.25"
    assert len(lines) == 4


def test_values_shown_are_the_last_known(capsys, clock):
    with Progress(100, "train", "steps", every=10.0) as progress:
        progress.advance(1, loss=0.5, dead="few")
        clock[0] += 11
        progress.advance(1)
    assert "loss 0.5 dead few" in capsys.readouterr().err


def test_other_ranks_print_nothing(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    with Progress(1, "train", "steps", every=0.0) as progress:
        progress.advance(1)
    say("nothing")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    say("something")
    assert capsys.readouterr() == ("", "something\n")


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(4, "produce", "rows", every=0.0) as progress:
        for _ in range(4):
            progress.advance(1, loss=0.125)
    assert "produce: 100%" in terminal.getvalue()
    assert "loss 0.125" in terminal.getvalue()
    assert "\nproduce: 1/4" not in terminal.getvalue()


def test_no_work_at_all_is_not_a_division_by_zero(capsys):
    with Progress(0, "train", "steps", every=0.0) as progress:
        progress.advance(0)
    assert "0/0 steps (0%)" in capsys.readouterr().err


def test_unknown_total_is_a_count_and_a_rate(capsys, clock, monkeypatch):
    with Progress(None, "tokenise", "tokens", every=10.0) as progress:
        for _ in range(21):
            clock[0] += 1
            progress.advance(1000)
    assert capsys.readouterr().err.splitlines() == [
        "tokenise: 10,000 tokens, 1,000 tokens/s",
        "tokenise: 20,000 tokens, 1,000 tokens/s",
    ]
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    with Progress(None, "tokenise", "tokens", every=0.0) as progress:
        progress.advance(3)
    assert "tokenise: 3.00 tokens" in terminal.getvalue()
    assert "%" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpt2 × 3 – ü\n\tx̂", "gpt2 × 3 – ü\n\tx̂"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\x00\x7f\x9b", r"a\rb\x00\x7f\x9b"),
        ("bytes \udcff, \u202e right to left", r"bytes \udcff, \u202e right to left"),
    ],
)
def test_control_characters_are_written_out(capsys, text, shown):
    assert printable(text) == shown
    show(text)
    say(text)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (f"{shown}\n", f"{shown}\n")
