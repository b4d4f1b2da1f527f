"""A server that speaks the chat API; its "model" answers by a rule computed from the prompt, so that scores are known.

Faults are planted by a function of the request's number: an answer to send instead, or something to do to the socket.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Rule = Callable[[str, str], str]
"""A function from the system message and the user's message to an answer."""


@dataclass(frozen=True)
class Fault:
    """What a request gets instead of an answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # the connection is reset in the middle of the answer
    silent: float = 0.0  # seconds without a byte
    drip: bool = False  # a byte now and then, without an end


def pieces(user: str) -> list[str]:
    """The numbered pieces of a prompt."""
    return [line.partition(": ")[2] for line in user.splitlines() if re.match(r"Piece \d+: ", line)]


def perfect(system: str, user: str) -> str:
    """Names the word that is marked most often, and judges by it alone."""
    if "EXPLANATION:" in system:
        marked = Counter(word.strip() for word in re.findall(r"<<(.*?)>>", user))
        return f"I see.\nEXPLANATION: the word {marked.most_common(1)[0][0]}"
    word = re.search(r"Explanation: the word (\S+)", user)[1]
    if "between << and >>" in system:
        return str(
            [int({part.strip() for part in re.findall(r"<<(.*?)>>", piece)} == {word}) for piece in pieces(user)]
        )
    return str([int(word in piece.split()) for piece in pieces(user)])


def _changed(change: Callable[[str, int], int]) -> Rule:
    def rule(system: str, user: str) -> str:
        answer = perfect(system, user)
        if "EXPLANATION:" in system:
            return answer
        return str([change(p, value) for p, value in zip(pieces(user), json.loads(answer), strict=True)])

    return rule


inverted = _changed(lambda piece, value: 1 - value)
always = _changed(lambda piece, value: 1)
coin = _changed(lambda piece, value: zlib.crc32(piece.encode()) >> 7 & 1)


class ChatServer(ThreadingHTTPServer):
    """The server; `requests` has the JSON of each, `keys` its authorization, `most` how many it had at a time."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, rule: Rule, fault: Callable[[int], Fault | None], seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), ChatRequest)
        self.rule, self.fault, self.seconds = rule, fault, seconds
        self.lock = threading.Lock()
        self.requests: list[dict] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.now = self.most = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: object) -> None:
        """Says nothing when a client has gone."""


class ChatRequest(BaseHTTPRequestHandler):
    """One request."""

    server: ChatServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.requests)
            server.requests.append(request)
            server.paths.append(self.path)
            server.keys.append(self.headers.get("Authorization"))
            server.times.append(time.monotonic())
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            time.sleep(server.seconds)
            fault = server.fault(number)
            if fault is None:
                system, user = (message["content"] for message in request["messages"])
                text = server.rule(system, user)
                fault = Fault(body=json.dumps({"choices": [{"message": {"content": text}}]}).encode())
        finally:
            with server.lock:
                server.now -= 1
        self._send(fault)

    def _send(self, fault: Fault) -> None:
        time.sleep(fault.silent)
        try:
            self.send_response(fault.status)
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(fault.body) + 1000 * (fault.cut or fault.drip)))
            self.end_headers()
            self.wfile.write(fault.body)
            for _ in range(200 if fault.drip else 0):
                self.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            return
        if fault.cut:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(
    rule: Rule = perfect, fault: Callable[[int], Fault | None] = lambda number: None, seconds: float = 0.0
) -> Iterator[ChatServer]:
    server = ChatServer(rule, fault, seconds)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
