"""An action gets its parsed arguments; an unknown one is refused with the names of those there are."""

from dataclasses import dataclass

import pytest

from distsae.cli.actions import Action, act
from distsae.errors import WrongInput

TEXTS = {"help": "For trying.", "examples": "\n  distsae thing one x\n"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of an action.

    Args:
        name: what it is called.
        size: how large it is.
    """

    name: str
    size: int = 1


ONE = Action(config_class=Config, run=lambda config: config.size, help="Does one thing.", positionals=("name",))
TWO = Action(config_class=Config, run=lambda config: 0, help="Does another.", positionals=())


def test_the_action_gets_its_parsed_arguments():
    seen = []
    action = Action(
        config_class=Config, run=lambda config: seen.append(config) or 5, help="Looks.", positionals=("name",)
    )
    assert act("thing", "THING", {"one": ONE, "two": action}, ["two", "x", "--size", "3"], **TEXTS) == 5
    assert seen == [Config(name="x", size=3)]
    assert act("thing", "THING", {"one": ONE}, ["one", "x", "--size", "2"], **TEXTS) == 2


@pytest.mark.parametrize(("words", "code"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_without_an_action_the_actions_are_listed(words, code, capsys):
    assert act("thing", "THING", {"one": ONE, "two": TWO}, words, **TEXTS) == code
    assert capsys.readouterr().out == (
        "usage: distsae thing one|two THING ...\n\nFor trying.\n\nexamples:\n  distsae thing one x\n"
    )


def test_an_action_has_help_of_its_own(capsys):
    with pytest.raises(SystemExit) as end:
        act("thing", "THING", {"one": ONE, "two": TWO}, ["one", "--help"], **TEXTS)
    assert not end.value.code
    shown = capsys.readouterr().out
    assert shown.startswith("usage: distsae thing one ")
    assert "Does one thing." in shown
    assert "how large it is" in shown
    assert shown.endswith("examples:\n  distsae thing one x\n")


def test_wrong_input_is_refused():
    with pytest.raises(WrongInput, match=r"`thing` \(=onw\) must be followed by one of one, two; did you mean 'one'\?"):
        act("thing", "THING", {"one": ONE, "two": TWO}, ["onw"], **TEXTS)
    with pytest.raises(WrongInput, match="unknown key `siez`; did you mean 'size'"):
        act("thing", "THING", {"one": ONE}, ["one", "x", "--siez", "3"], **TEXTS)
