import email.utils
import socket
import threading
import time

import pytest

from distsae.reporting.explanations.chat_endpoint import (
    ChatEndpoint,
    EndpointFailed,
    RequestRefused,
    StoppedWaiting,
)
from tests.reporting.explanations.chat_server import Fault, serving

KEY = "sk-very-secret"
MESSAGES = [{"role": "system", "content": "EXPLANATION:"}, {"role": "user", "content": "<< é🙂>>"}]
ANSWER = "I see.\nEXPLANATION: the word é🙂"


def endpoint(server, **changes):
    url = server if isinstance(server, str) else f"{server.endpoint}/chat/completions"
    values = {"key": None, "timeout": 5.0, "retries": 3, "connections": 4, "pause": 0.01} | changes
    return ChatEndpoint(url, {"model": "m", "temperature": 0.0}, **values)


def test_what_is_sent():
    with serving() as server, endpoint(server, key=KEY) as asked:
        assert asked.ask(MESSAGES) == ANSWER
    assert server.requests == [{"model": "m", "temperature": 0.0, "messages": MESSAGES}]
    assert server.paths == ["/v1/chat/completions"]
    assert server.keys == [f"Bearer {KEY}"]
    with serving() as server, endpoint(server) as asked:
        asked.ask(MESSAGES)
    assert server.keys == [None]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429),
        Fault(500, b"oops"),
        Fault(503),
        Fault(200, b"<html>a gateway</html>"),
        Fault(200, b'{"choices": []}'),
        Fault(200, b'{"choices": [{"message": {"content": 3}}]}'),
        Fault(200, b"\xff\xfe"),
        Fault(200, b"[" * 100_000),
        Fault(200, b'{"choices"', cut=True),
        Fault(200, b"", cut=True),
        Fault(silent=60),
        Fault(drip=True),
        Fault(200, b" " * (9 << 20)),
    ],
)
def test_what_may_pass_is_tried_again(fault):
    patience = 1.0 if fault.silent or fault.drip else 60  # each of these two takes it twice
    with (
        serving(fault=lambda number: fault if number < 2 else None) as server,
        endpoint(server, timeout=patience) as asked,
    ):
        assert asked.ask(MESSAGES) == ANSWER
        assert asked.tried_again == 2
    assert len(server.requests) == 3


def test_a_broken_endpoint_is_one_line():
    body = b'{"error": {"message": "no\\nslots"}}'
    with serving(fault=lambda number: Fault(503, body)) as server, endpoint(server) as asked:
        with pytest.raises(EndpointFailed, match=r"failed in 4 tries: status 503: no slots; what is done is kept"):
            asked.ask(MESSAGES)
        assert len(server.requests) == 4


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1/chat/completions"
    with endpoint(url, retries=1) as asked, pytest.raises(EndpointFailed, match=r"failed in 2 tries: .*refused"):
        asked.ask(MESSAGES)
    with (
        endpoint("http://no-such-host.invalid/v1", retries=0) as asked,
        pytest.raises(EndpointFailed, match="in 1 try"),
    ):
        asked.ask(MESSAGES)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 413, 422])
def test_what_would_always_fail_is_not_tried_again(status):
    fault = Fault(status, b"no", {"Location": "http://127.0.0.1:9/"})
    with serving(fault=lambda number: fault) as server, endpoint(server, key=KEY) as asked:
        with pytest.raises(EndpointFailed, match=f"refused the request: status {status}: no"):
            asked.ask(MESSAGES)
        assert len(server.requests) == 1


def test_one_request_may_be_refused_after_others_were_accepted():
    faults = {1: Fault(400, b'{"error": "too long"}'), 2: Fault(401)}
    with serving(fault=faults.get) as server, endpoint(server) as asked:
        asked.ask(MESSAGES)
        with pytest.raises(RequestRefused, match="status 400: too long"):
            asked.ask(MESSAGES)
        with pytest.raises(EndpointFailed):
            asked.ask(MESSAGES)


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_retry_after_is_honoured(kind):
    def fault(number):
        asked_for = "1" if kind == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
        return Fault(429, headers={"Retry-After": asked_for}) if number == 0 else None

    with serving(fault=fault) as server, endpoint(server) as asked:
        asked.ask(MESSAGES)
    assert server.times[1] - server.times[0] >= 0.9


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "inf", "Mon, 99 Foo 2026 00:00:00 GMT", ""])
def test_a_strange_retry_after_is_ignored(value):
    fault = Fault(429, headers={"Retry-After": value})
    with serving(fault=lambda number: None if number else fault) as server, endpoint(server) as asked:
        assert asked.ask(MESSAGES) == ANSWER


def test_pauses_grow():
    with serving(fault=lambda number: Fault(500)) as server, endpoint(server, pause=0.05) as asked:
        with pytest.raises(EndpointFailed):
            asked.ask(MESSAGES)
        pauses = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert all(pause > 0.75 * 0.05 * 2**number for number, pause in enumerate(pauses))


@pytest.mark.parametrize("status", [200, 401, 500])
def test_an_endpoint_that_repeats_the_key_does_not_show_it(status):
    body = b'{"error": "your key sk-very-secret", "choices": [{"message": {"content": "sk-very-secret fits"}}]}'
    with serving(fault=lambda number: Fault(status, body)) as server, endpoint(server, key=KEY, retries=0) as asked:
        if status == 200:
            assert asked.ask(MESSAGES) == "[the key] fits"
            return
        with pytest.raises(EndpointFailed, match=r"\[the key\]") as error:
            asked.ask(MESSAGES)
        assert "secret" not in str(error.value)


def test_stop_ends_a_wait():
    with serving(fault=lambda number: Fault(429, headers={"Retry-After": "60"})) as server, endpoint(server) as asked:
        threading.Timer(0.3, asked.stop).start()
        with pytest.raises(StoppedWaiting):
            asked.ask(MESSAGES)
        with pytest.raises(StoppedWaiting):
            asked.ask(MESSAGES)
    assert len(server.requests) == 1


def test_an_answer_without_text_is_empty():
    body = b'{"choices": [{"message": {"content": null, "reasoning": "..."}}]}'
    with serving(fault=lambda number: Fault(200, body)) as server, endpoint(server) as asked:
        assert asked.ask(MESSAGES) == ""
