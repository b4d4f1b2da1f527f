"""The config of explanations: which features, which endpoint, and what is sent there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from distsae.errors import WrongInput
from distsae.store.mounted_path import mounted_path

__all__ = ["ExplainConfig", "WrongMarks"]

WrongMarks = Literal["non_activating", "activating"]
"""Contexts that get the wrong marks of fuzzing."""

_LEAVES_RESULTS = (
    *("run", "out", "endpoint", "features", "max_features", "key_env", "concurrency", "retries", "timeout"),
    *("store", "sae", "device"),
)


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Explains features in words by a language model behind an endpoint, and scores the explanations.

    Args:
        run: run folder or SAE folder with feature pages in features/, or the folder of the pages.
        endpoint: base URL of an OpenAI-compatible API, such as http://localhost:8000/v1; nothing is sent without it.
        model: name of the language model, as the endpoint knows it.
        features: numbers of the features to explain, such as '[1, 2, 3]'; by default random ones that fire.
        max_features: number of random features to explain if `features` are not given.
        out: folder for the results; by default explanations/ in the folder of the pages.
        dry_run: whether to print what would be sent, with one full prompt, and send nothing.
        key_env: name of the environment variable that holds the API key; by default no key is sent.
        shown_contexts: strongest contexts that the explanation is made from, at most half of a feature's contexts.
        scored_contexts: most other contexts of a feature that its explanation is scored on, with as many of others.
        examples_per_request: contexts to judge in one request.
        wrong_marks: contexts that get the wrong marks of fuzzing, non_activating or activating.
        max_density: largest density of a feature to explain; one that fires more often may fire in contexts of others.
        store: store that the pages were made from; with it, contexts in which the feature fires are never taken for
            non-activating ones.
        sae: SAE of the pages, for `store`, as a path or a name on the Hub; by default the run that they are in.
        device: device on which the SAE works for `store`, auto, cpu, cuda or cuda:N.
        seed: seed of everything that is random: features, other contexts, wrong marks, order.
        temperature: temperature of the language model; null leaves it to the endpoint.
        max_tokens: most tokens of an answer; null leaves it to the endpoint.
        concurrency: most requests at a time.
        retries: tries after the first one, if the endpoint is busy, fails or does not answer.
        timeout: seconds after which a request counts as not answered.
    """

    run: str
    endpoint: str | None = None
    model: str | None = None
    features: tuple[int, ...] = ()
    max_features: int = 100
    out: str | None = None
    dry_run: bool = False
    key_env: str | None = None
    shown_contexts: int = 10
    scored_contexts: int = 8
    examples_per_request: int = 5
    wrong_marks: WrongMarks = "non_activating"
    max_density: float = 0.01
    store: str | None = None
    sae: str | None = None
    device: str = "auto"
    seed: int = 0
    temperature: float | None = 0.0
    max_tokens: int | None = 500
    concurrency: int = 8
    retries: int = 5
    timeout: float = 120.0

    def __post_init__(self) -> None:
        """Expands `~`, and refuses what cannot be meant.

        Raises:
            WrongInput: no endpoint or model to send to, a URL that is none, or a number out of its range.
        """
        for name in ("run", "out", "sae"):
            if value := getattr(self, name):
                object.__setattr__(self, name, str(mounted_path(value, name)))
        for name in ("max_features", "shown_contexts", "scored_contexts", "examples_per_request", "concurrency"):
            if (value := getattr(self, name)) < 1:
                raise WrongInput(f"`{name}` (={value}) must be at least 1; give a positive number")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise WrongInput(f"`max_tokens` (={self.max_tokens}) must be at least 1; give a positive number, or null")
        if self.retries < 0:
            raise WrongInput(f"`retries` (={self.retries}) must be at least 0; give 0 to try once")
        if not 0 < self.timeout < 1e6:
            raise WrongInput(f"`timeout` (={self.timeout}) must be a number of seconds over 0; give 120, for example")
        if not 0 < self.max_density <= 1:
            raise WrongInput(f"`max_density` (={self.max_density}) must be over 0 and at most 1; give a share of rows")
        if self.temperature is not None and not 0 <= self.temperature <= 10:
            raise WrongInput(f"`temperature` (={self.temperature}) must be from 0 to 10; give 0 for the likeliest text")
        if any(feature < 0 for feature in self.features):
            raise WrongInput(f"`features` (={list(self.features)}) must be numbers from 0; got one below")
        if self.key_env is not None and re.fullmatch(r"[A-Za-z_]\w*", self.key_env, re.ASCII) is None:
            # What is given may be a key: it is not shown.
            raise WrongInput("`key_env` must be the name of an environment variable; got another text; give its name")
        for name in ("sae", "device"):
            if self.store is None and (value := getattr(self, name)) != getattr(ExplainConfig, name):
                raise WrongInput(f"`{name}` (={value}) must be given with `store`; got none; give --store too")
        self._check_endpoint()

    def _check_endpoint(self) -> None:
        if self.endpoint is None:
            if not self.dry_run:
                raise WrongInput(
                    "`endpoint` must be given, since nothing is sent without it; got none; give the URL of an "
                    "OpenAI-compatible API, or --dry_run to see what would be sent"
                )
            return
        try:
            url = urlsplit(self.endpoint)
            is_url = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
        except ValueError:
            is_url = False
        if not is_url or re.search(r"[\s\x00-\x20\x7f]", self.endpoint):
            raise WrongInput(
                f"`endpoint` (={self.endpoint}) must be an http or https URL; give one such as http://localhost:8000/v1"
            )
        if url.username is not None or url.password is not None or url.query or url.fragment:
            raise WrongInput(
                "`endpoint` must be a URL without user, password, query or fragment; give a key by --key_env"
            )
        if not self.model and not self.dry_run:
            raise WrongInput("`model` must be given with `endpoint`; got none; give the name that the endpoint knows")

    @property
    def url(self) -> str:
        """The URL that requests go to."""
        base = (self.endpoint or "").rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"

    def deciding(self) -> dict[str, Any]:
        """Returns the settings that decide what an explanation and its scores are, as JSON values."""
        left_out = (*_LEAVES_RESULTS, "dry_run")
        found = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}
        # What was checked on the store is not what was not; said only then, so that older results can be gone on with.
        return found | ({"checked_on_store": True} if self.store is not None else {})
