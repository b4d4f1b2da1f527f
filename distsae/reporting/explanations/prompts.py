"""The texts that are sent: one request for an explanation, and requests to judge contexts by it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from distsae.reporting.explanations.examples import Example, FeatureExamples

__all__ = ["PROMPTS_VERSION", "Messages", "detection_prompt", "explanation_prompt", "fuzzing_prompt", "marked_text"]

PROMPTS_VERSION = 1
"""Number of these texts; it is raised when one changes, since scores of other texts cannot be compared."""

Messages = list[dict[str, str]]
"""A conversation as the API takes it."""

_EXPLAIN = """\
You study a feature inside a language model. The feature fires on some tokens of a text and not on others. You are \
shown pieces of text in which it fires, the strongest first. The tokens on which it fires stand between << and >>. \
After each piece they are listed with their activations, from 0 to 10. A piece may begin or end in the middle of a \
sentence.

Find what the marked tokens have in common: the tokens themselves, or what the text before them is about. Describe \
this in one short sentence. Leave out the marks, and do not describe single pieces. End your answer with one line:
EXPLANATION: your sentence"""

_DETECT = """\
You are shown an explanation of a feature inside a language model, and {count} numbered pieces of text. For each \
piece, decide whether the feature, as it is explained, fires on some token of it.

Answer with a list of {count} numbers in brackets and nothing else, in the order of the pieces: 1 if it fires in the \
piece, 0 if it does not. An answer of the right form is {form}"""

_FUZZ = """\
You are shown an explanation of a feature inside a language model, and {count} numbered pieces of text. In each piece \
some tokens stand between << and >>. In some pieces these are the tokens on which the feature fires, in others they \
are not. For each piece, decide whether the marked tokens are those that the explanation describes.

Answer with a list of {count} numbers in brackets and nothing else, in the order of the pieces: 1 if the right tokens \
are marked, 0 if they are not. An answer of the right form is {form}"""


def explanation_prompt(examples: FeatureExamples) -> Messages:
    """Returns the request for an explanation."""
    pieces = []
    for number, window in enumerate(examples.shown, 1):
        listed = ", ".join(
            f"{_plain(window.tokens[place])!r} {_strength(window.activations[place], examples.largest)}"
            for place in sorted(window.firing)
        )
        pieces.append(f"Piece {number}: {marked_text(window.tokens, window.firing)}\nActivations: {listed}")
    return [{"role": "system", "content": _EXPLAIN}, {"role": "user", "content": "\n\n".join(pieces)}]


def detection_prompt(explanation: str, examples: Sequence[Example]) -> Messages:
    """Returns the request to say in which contexts the feature fires."""
    return _judged(_DETECT, explanation, examples)


def fuzzing_prompt(explanation: str, examples: Sequence[Example]) -> Messages:
    """Returns the request to say in which contexts the right tokens are marked."""
    return _judged(_FUZZ, explanation, examples)


def marked_text(tokens: Sequence[str], marked: Collection[int]) -> str:
    """Returns text in which the marked tokens stand between << and >>, neighbours together.

    Line ends become ↵, so that a piece is a line. << and >> of the text itself get a space, so that they are no marks.
    """
    parts: list[str] = []
    place = 0
    while place < len(tokens):
        is_marked = place in marked
        end = place
        while end < len(tokens) and (end in marked) == is_marked:
            end += 1
        text = _plain("".join(tokens[place:end]))
        parts.append(f"<<{text}>>" if is_marked else text)
        place = end
    return "".join(parts)


def _judged(system: str, explanation: str, examples: Sequence[Example]) -> Messages:
    form = f"[{', '.join(str(place % 2) for place in range(len(examples)))}]"
    pieces = [f"Piece {n}: {marked_text(example.tokens, example.marked)}" for n, example in enumerate(examples, 1)]
    return [
        {"role": "system", "content": system.format(count=len(examples), form=form)},
        {"role": "user", "content": f"Explanation: {explanation}\n\n" + "\n".join(pieces)},
    ]


def _plain(text: str) -> str:
    for end in ("\r\n", "\n", "\r", "\u2028", "\u2029"):
        text = text.replace(end, "↵")
    return text.replace("<<", "< <").replace(">>", "> >")


def _strength(activation: float, largest: float) -> int:
    return max(1, round(10 * activation / largest)) if largest > 0 else 0
