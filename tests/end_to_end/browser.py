"""Chromium without a window, driven over the pipe of its DevTools protocol: no server, no driver, no package.

It is found as `DISTSAE_CHROMIUM`, `chromium` or `google-chrome`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """Returns the browser, None if there is none."""
    named = os.environ.get("DISTSAE_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("google-chrome")


class Page:
    """A page of the browser, and what it has said since it was opened: errors, and what its policy has blocked."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._number = 0
        self._text = b""
        self.complaints: list[str] = []
        self.requested: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Runtime", "Log", "Page", "Network"):
            self._ask(f"{part}.enable")

    _session: str | None = None

    def open(self, url: str) -> None:
        """Goes to a page, and waits until it shows something."""
        self._ask("Page.navigate", url=url)
        self.wait("document.querySelector('main h2') !== null")

    def value(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> float:
        """Waits until an expression is true; returns the seconds that it took."""
        started = time.monotonic()
        while self.value(f"Boolean({expression})") is not True:
            assert time.monotonic() - started < seconds, (expression, self.complaints)
            time.sleep(0.005)
        return time.monotonic() - started

    def press(self, key: str, text: str | None = None) -> None:
        """Presses and releases a key; one that writes a character has it as its text."""
        keys = {"key": key, **({"text": text} if text else {})}
        self._ask("Input.dispatchKeyEvent", type="keyDown", **keys)
        self._ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Writes into what has the focus."""
        self._ask("Input.insertText", text=text)

    def as_phone(self) -> None:
        """Makes the page as wide as a phone."""
        self._ask("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._text:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._text += part
        message, _, self._text = self._text.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Yields a page of a fresh browser, which keeps what it needs in `folder`."""
    name = chromium()
    assert name is not None
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    words = [name, *SWITCHES, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *words],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(write, read)
    finally:
        process.kill()
        process.wait()
        os.close(write)
        os.close(read)
