"""An action gets its words, and what there is not is refused with what there is."""

import pytest

from distsae.cli.actions import act
from distsae.errors import WrongInput

TEXTS = {"help": "For trying.", "examples": "\n  distsae thing one x\n"}


def _one(words):
    return len(words)


def test_the_action_gets_the_other_words():
    assert act("thing", "THING", {"one": _one}, ["one", "x", "--y"], **TEXTS) == 2


@pytest.mark.parametrize(("words", "code"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_without_an_action_it_says_what_there_is(words, code, capsys):
    assert act("thing", "THING", {"one": _one, "two": _one}, words, **TEXTS) == code
    assert capsys.readouterr().out == (
        "usage: distsae thing one|two THING ...\n\nFor trying.\n\nexamples:\n  distsae thing one x\n"
    )


def test_an_unknown_action_is_refused():
    with pytest.raises(WrongInput, match=r"`thing` \(=onw\) must be followed by one of one, two; did you mean 'one'\?"):
        act("thing", "THING", {"one": _one, "two": _one}, ["onw"], **TEXTS)
