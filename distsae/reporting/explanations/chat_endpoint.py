"""Requests to a chat endpoint: each is tried again where that may help, and every failure is one line.

A busy or broken endpoint (429, 408, 5xx), a lost connection, a time-out and an answer that is none are tried again
after a pause, which doubles, or after what `Retry-After` says. Anything else ends the work: a wrong key, URL or model
would fail for every feature. A request that is refused for its content (400, 413, 422), after others were accepted, is
given up alone.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import httpx

from distsae import __version__
from distsae.checked_files import parse_json
from distsae.errors import CannotContinue, DistsaeError
from distsae.reporting.explanations.prompts import Messages

__all__ = ["ChatEndpoint", "EndpointFailed", "RequestRefused", "StoppedWaiting"]

_BUSY = (408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)
_OF_THE_REQUEST = (400, 413, 422)
_MOST_BYTES = 8 << 20
_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 600.0
_MOST_SHOWN = 300


class EndpointFailed(CannotContinue):
    """The endpoint cannot be used: exit code 1. What was done before is kept."""


class RequestRefused(Exception):
    """The endpoint refused one request for its content, while it accepts others; the text is one line."""


class StoppedWaiting(Exception):
    """The work was stopped while a request waited for its next try."""


class _NotJSON(DistsaeError):
    """What should be JSON is not."""


class _TryAgain(Exception):
    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class ChatEndpoint:
    """A chat endpoint, used by many threads.

    Args:
        url: URL of chat completions.
        body: what each request has beside its messages: model, temperature and the like.
        key: API key; None for none. It is never shown: where an answer holds it, it is replaced.
        timeout: seconds after which a request counts as not answered.
        retries: tries after the first one.
        connections: most connections at a time.
        pause: seconds before the second try; later pauses are twice as long each, up to a minute.
    """

    def __init__(
        self,
        url: str,
        body: Mapping[str, Any],
        *,
        key: str | None,
        timeout: float,
        retries: int,
        connections: int,
        pause: float = 1.0,
    ) -> None:
        headers = {"User-Agent": f"distsae/{__version__}", "Accept": "application/json", "Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            headers=headers,
            timeout=timeout,
            follow_redirects=False,  # the key and the text are for this endpoint alone
            limits=httpx.Limits(max_connections=connections),
        )
        self._url, self._body = url, dict(body)
        self._key, self._timeout = key, timeout
        self._tries, self._pause = retries + 1, pause
        self._stopped = threading.Event()
        self._has_answered = False
        self.tried_again = 0

    def __enter__(self) -> ChatEndpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if not isinstance(error, KeyboardInterrupt | SystemExit):
            self._client.close()

    def stop(self) -> None:
        """Ends every wait for a next try, in all threads, and lets no further request begin."""
        self._stopped.set()

    def ask(self, messages: Messages) -> str:
        """Returns the answer to a conversation.

        Raises:
            EndpointFailed: the endpoint cannot be used.
            RequestRefused: it refuses this request.
            StoppedWaiting: `stop` was called.
        """
        reason = ""
        for number in range(self._tries):
            if self._stopped.is_set():
                raise StoppedWaiting
            try:
                answer = self._try(messages)
            except _TryAgain as failed:
                reason = str(failed)
                if number + 1 < self._tries:
                    self.tried_again += 1
                    self._wait(number, failed.retry_after)
            else:
                self._has_answered = True
                return answer
        tries = "1 try" if self._tries == 1 else f"{self._tries} tries"
        raise EndpointFailed(
            f"the endpoint {self._url} failed in {tries}: {reason}; what is done is kept, and the same command goes on"
        )

    def _wait(self, number: int, retry_after: float | None) -> None:
        seconds = min(self._pause * 2**number, _LONGEST_PAUSE) * random.uniform(0.75, 1.25)
        if retry_after is not None:
            seconds = max(seconds, min(retry_after, _LONGEST_RETRY_AFTER))
        if self._stopped.wait(seconds):
            raise StoppedWaiting

    def _try(self, messages: Messages) -> str:
        deadline = time.monotonic() + self._timeout
        try:
            with self._client.stream("POST", self._url, json={**self._body, "messages": messages}) as response:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _MOST_BYTES:
                        raise _TryAgain("its answer is larger than 8 MiB")
                    if time.monotonic() > deadline:
                        raise _TryAgain(f"no whole answer in {self._timeout:g} seconds")
        except httpx.TimeoutException:
            raise _TryAgain(f"no answer in {self._timeout:g} seconds") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise EndpointFailed(f"the endpoint {self._url} cannot be used: {self._shown(str(error))}") from None
        except httpx.HTTPError as error:
            raise _TryAgain(self._shown(str(error) or type(error).__name__)) from None
        if response.status_code == 200:
            return self._answer(bytes(content))
        what = f"status {response.status_code}: {self._shown(_message(bytes(content)))}"
        if response.status_code in _BUSY:
            raise _TryAgain(what, _seconds(response.headers.get("Retry-After"), time.time))
        if response.status_code in _OF_THE_REQUEST and self._has_answered:
            raise RequestRefused(what)
        raise EndpointFailed(f"the endpoint {self._url} refused the request: {what}")

    def _answer(self, content: bytes) -> str:
        try:
            text = parse_json(content, "its answer", _NotJSON)["choices"][0]["message"]["content"]
        except (_NotJSON, KeyError, IndexError, TypeError):
            raise _TryAgain(f"its answer is not of the API: {self._shown(_message(content))}") from None
        if text is not None and not isinstance(text, str):
            raise _TryAgain("its answer is not of the API: its content is no text")
        return self._without_key(text or "")

    def _shown(self, text: str) -> str:
        return self._without_key(" ".join(text.split()))[:_MOST_SHOWN]

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[the key]") if self._key else text


def _message(content: bytes) -> str:
    """Returns what an error says: the message in it, otherwise the beginning of the text."""
    text = content[: 1 << 16].decode("utf-8", "replace")
    try:
        error = parse_json(content, "its answer", _NotJSON)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (_NotJSON, KeyError, IndexError, TypeError):
        return text


def _seconds(retry_after: str | None, now: Callable[[], float]) -> float | None:
    """Returns the seconds that `Retry-After` asks for: a number, or a date; None if it says nothing."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - now()
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if 0 <= seconds < float("inf") else None
