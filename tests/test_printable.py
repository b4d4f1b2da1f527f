"""Control characters are written out, on both streams."""

import pytest

from distsae.printable import printable
from distsae.progress import say
from distsae.standard_streams import show


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
