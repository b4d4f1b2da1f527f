from distsae.reporting.explanations.examples import Example, examples_of
from distsae.reporting.explanations.prompts import detection_prompt, explanation_prompt, fuzzing_prompt, marked_text
from tests.reporting.explanations.samples import config, contexts_of, window
from tests.reporting.explanations.test_examples import OTHERS


def test_marks_neighbours_together():
    tokens = (" a", " b", " c", " d")
    assert marked_text(tokens, {0}) == "<< a>> b c d"
    assert marked_text(tokens, {1, 2}) == " a<< b c>> d"
    assert marked_text(tokens, {0, 3}) == "<< a>> b c<< d>>"
    assert marked_text(tokens, ()) == " a b c d"
    assert marked_text((), ()) == ""


def test_text_is_on_one_line_and_holds_no_marks_of_its_own():
    assert marked_text(("x\n", "Piece 9: y", "\r\n", "<", "<z>>"), {1}) == "x↵<<Piece 9: y>>↵< <z> >"
    assert "\u2028" not in marked_text(("a\u2028b",), ())


def test_an_explanation_is_asked_with_activations():
    windows = [window(n, 0.0, 8.0 - n, 0.1) for n in range(8)]
    system, user = explanation_prompt(examples_of(contexts_of(0, windows, []), OTHERS, config(shown_contexts=2)))
    assert (system["role"], user["role"]) == ("system", "user")
    assert user["content"] == (
        "Piece 1:  t0<< t1 t2>>\nActivations: ' t1' 10, ' t2' 1\n\n"
        "Piece 2:  t0<< t1 t2>>\nActivations: ' t1' 9, ' t2' 1"
    )
    assert "EXPLANATION:" in system["content"]


def test_judgements_are_asked_for_as_many_pieces():
    examples = [Example((" a", " b"), frozenset({1}), True), Example((" c",), frozenset(), False)]
    for prompt in (detection_prompt, fuzzing_prompt):
        system, user = prompt("a {brace}", examples)
        assert user["content"] == "Explanation: a {brace}\n\nPiece 1:  a<< b>>\nPiece 2:  c"
        assert "a list of 2 numbers" in system["content"]
        assert "[0, 1]" in system["content"]
    assert "marked" in fuzzing_prompt("x", examples)[0]["content"]
    assert "marked" not in detection_prompt("x", examples)[0]["content"]
