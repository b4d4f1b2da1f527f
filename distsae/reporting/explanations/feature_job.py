"""The requests about one feature: its explanation first, then the examples to judge by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from distsae.reporting.explanations.answers import explanation_in, judgements_in
from distsae.reporting.explanations.chat_endpoint import RequestRefused
from distsae.reporting.explanations.config import ExplainConfig
from distsae.reporting.explanations.examples import Example, FeatureExamples
from distsae.reporting.explanations.prompts import (
    PROMPTS_VERSION,
    Messages,
    detection_prompt,
    explanation_prompt,
    fuzzing_prompt,
)
from distsae.reporting.explanations.result_folder import FeatureResult
from distsae.reporting.explanations.scores import JudgementCounts

__all__ = ["explain_feature", "prompts_of"]

Ask = Callable[[Messages], str]

_PLACEHOLDER = "the explanation, one sentence in which the language model says what the marked tokens have in common"


def explain_feature(examples: FeatureExamples, ask: Ask, config: ExplainConfig) -> FeatureResult:
    """Returns the explanation of a feature, with the counts of its scores.

    Args:
        examples: what is sent about it.
        ask: function that returns the answer to a request.
        config: model, seed, and how many examples are judged in one request.
    """
    problem = explanation = None
    detection = fuzzing = JudgementCounts()
    try:
        explanation = explanation_in(ask(explanation_prompt(examples)))
        if explanation is None:
            problem = "the answer was empty"
        else:
            detection = _judged(detection_prompt, explanation, examples.detection, ask, config)
            fuzzing = _judged(fuzzing_prompt, explanation, examples.fuzzing, ask, config)
    except RequestRefused as refused:
        problem = f"a request was refused: {refused}"
    return FeatureResult(
        feature=examples.feature,
        explanation=explanation,
        problem=problem,
        detection=detection,
        fuzzing=fuzzing,
        other_firing=examples.other_firing,
        prompts=PROMPTS_VERSION,
        model=config.model or "",
        seed=config.seed,
    )


def prompts_of(examples: FeatureExamples, config: ExplainConfig) -> Iterator[Messages]:
    """Yields all requests about a feature, with a placeholder for the explanation."""
    yield explanation_prompt(examples)
    for prompt, judged in ((detection_prompt, examples.detection), (fuzzing_prompt, examples.fuzzing)):
        for some in _batches(judged, config):
            yield prompt(_PLACEHOLDER, some)


def _judged(
    prompt: Callable[[str, Sequence[Example]], Messages],
    explanation: str,
    examples: Sequence[Example],
    ask: Ask,
    config: ExplainConfig,
) -> JudgementCounts:
    judged: list[tuple[bool, bool | None]] = []
    for some in _batches(examples, config):
        answers = judgements_in(ask(prompt(explanation, some)), len(some))
        judged += [(example.is_right, answers[n] if answers is not None else None) for n, example in enumerate(some)]
    return JudgementCounts.of(judged)


def _batches(examples: Sequence[Example], config: ExplainConfig) -> Iterator[Sequence[Example]]:
    for first in range(0, len(examples), config.examples_per_request):
        yield examples[first : first + config.examples_per_request]
