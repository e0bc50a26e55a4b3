"""How does a page behave in a real browser? A headless Chromium, spoken to over a pipe in its own DevTools protocol.

No driver and no port: two file descriptors and JSON with a zero byte behind each message.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE = 60.0  # seconds


def needs_chromium(test):
    """Mark a test that opens pages."""
    skip = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is on PATH")
    return pytest.mark.browser(skip(test))


class Page:
    """A tab, with all that went wrong and all that was asked for while it was open."""

    def __init__(self, browser: _Pipe) -> None:
        self._pipe = browser
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._pipe.ask(method, session=self._session, **parameters)

    def open(self, file: Path) -> None:
        self.ask("Page.navigate", url=file.as_uri())
        self._pipe.wait_for("Page.loadEventFired")

    def run(self, code: str) -> Any:
        """Run an expression, which may be a promise, and give its value."""
        done = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def see(self, *, width: int, height: int = 800, dark: bool = False, printed: bool = False) -> None:
        """Change what it is looked at with."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media="print" if printed else "screen", features=[feature])

    def point(self, x: float, y: float) -> None:
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def shot(self, file: Path) -> None:
        """Keep a picture of what can be seen."""
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def paper(self) -> bytes:
        """Print it, as PDF."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=False)["data"])

    @property
    def errors(self) -> list[str]:
        """What the console was told: errors, warnings, refusals of the policy."""
        logged = [one["params"]["entry"]["text"] for one in self._pipe.heard("Log.entryAdded")]
        thrown = [one["params"]["exceptionDetails"]["text"] for one in self._pipe.heard("Runtime.exceptionThrown")]
        said = [str(one["params"]["args"]) for one in self._pipe.heard("Runtime.consoleAPICalled")]
        return logged + thrown + said

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for, without those that carry their own content."""
        asked = [one["params"]["request"]["url"] for one in self._pipe.heard("Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith("data:")]


class _Pipe:
    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._rest, self._number = read, write, b"", 0
        self._heard: list[dict[str, Any]] = []

    def ask(self, method: str, *, session: str = "", **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._heard.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def heard(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self._heard if one.get("method") == event]

    def wait_for(self, event: str) -> None:
        until = time.monotonic() + _PATIENCE
        known = len(self.heard(event))
        if known:
            return
        while len(self.heard(event)) == known:
            assert time.monotonic() < until, f"{event} did not happen"
            self._heard.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            got = os.read(self._read, 1 << 20)
            assert got, "the browser is gone"
            self._rest += got
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextmanager
def chromium(folder: Path) -> Iterator[_Pipe]:
    """Start a browser that keeps what it keeps in a folder."""
    to_browser, we_write = os.pipe()
    we_read, from_browser = os.pipe()
    # The browser reads from descriptor 3 and writes to 4: a shell puts them there, whatever they are called here.
    redirect = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
    command = ["bash", "-c", redirect, CHROMIUM, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=(to_browser, from_browser))
    os.close(to_browser)
    os.close(from_browser)
    try:
        pipe = _Pipe(we_read, we_write)
        yield pipe
        pipe.ask("Browser.close")
    finally:
        os.close(we_write)
        os.close(we_read)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
