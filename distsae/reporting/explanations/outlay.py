"""What a command will send, counted before it sends anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from distsae.reporting.explanations.config import ExplainConfig
from distsae.reporting.explanations.examples import FeatureExamples
from distsae.reporting.explanations.feature_job import prompts_of
from distsae.reporting.explanations.prompts import Messages

__all__ = ["Outlay", "as_text", "outlay_of"]

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_ANSWER = 30


@dataclass(frozen=True, kw_only=True)
class Outlay:
    """What will be sent.

    Args:
        features: features that are explained.
        requests: requests, without those that are tried again.
        tokens: tokens of the requests, at four characters a token.
    """

    features: int
    requests: int
    tokens: int

    def line(self, config: ExplainConfig) -> str:
        """Returns what will be sent where, in one line."""
        where = config.url if config.endpoint is not None else "an endpoint"
        key = f"with the key in {config.key_env}" if config.key_env is not None else "without a key"
        most = "" if config.max_tokens is None else f", at most {config.max_tokens} each"
        return (
            f"sends text of the corpus to {where} ({config.model or 'no model given'}, {key}): {self.features:,} "
            f"features, {self.requests:,} requests, about {self.tokens:,} tokens; answers of about "
            f"{self.requests * _TOKENS_PER_ANSWER:,} tokens{most}"
        )


def outlay_of(features: Iterable[FeatureExamples], config: ExplainConfig) -> Outlay:
    """Returns what will be sent about features."""
    count = requests = characters = 0
    for examples in features:
        count += 1
        for messages in prompts_of(examples, config):
            requests += 1
            characters += sum(len(message["content"]) for message in messages)
    return Outlay(features=count, requests=requests, tokens=-(-characters // _CHARACTERS_PER_TOKEN))


def as_text(messages: Messages) -> str:
    """Returns a conversation as text to read."""
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)
