import pytest

from distsae.reporting.explanations.answers import MOST_CHARACTERS, explanation_in, judgements_in


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("EXPLANATION: Words of war.", "Words of war."),
        ("Thinking.\n**EXPLANATION:** Words\nof war.", "Words of war."),
        ("explanation: a EXPLANATION: b", "b"),
        ("Words of war.", "Words of war."),
        ("<think>EXPLANATION: no</think>\nEXPLANATION: yes", "yes"),
        ("<think>without an end", None),
        ("EXPLANATION:  \n", None),
        ("", None),
        ("a\x1b[2Jb\ud800c", "a [2Jb c"),
        ("x" * 5000, "x" * MOST_CHARACTERS),
    ],
)
def test_explanations(answer, expected):
    assert explanation_in(answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("[1, 0, 1]", [True, False, True]),
        ("Piece 1 [note] fits.\nAnswer: [1,0, 0].", [True, False, False]),
        ("<think>[0, 0, 0]</think>[1, 1, 1]", [True, True, True]),
        ('["yes", false, True]', [True, False, True]),
        ("[1, 0]", None),
        ("[1, 0, 2]", None),
        ("[1, 0, 1, ]", None),
        ("[]", None),
        ("1, 0, 1", None),
        ("[" * 10_000, None),
        ("", None),
    ],
)
def test_judgements(answer, expected):
    assert judgements_in(answer, 3) == expected
