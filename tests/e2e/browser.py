# SPDX-License-Identifier: Apache-2.0
"""A real Chromium without a window, driven by its own protocol over two pipes.

https://chromedevtools.github.io/devtools-protocol/ says what there is. Messages are JSON and end
with a NUL; no library is needed.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.workload import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE: Final = "hostile.example.org"
"""A site that lets its name resolve to this host."""
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--remote-debugging-pipe", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--mute-audio"),
    *("--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb"),
    *("--lang=en-GB", f"--host-resolver-rules=MAP {HOSTILE} 127.0.0.1"),
)
"""The sandbox needs another user than root, and what is shown is our own."""
MODIFIERS: Final = {"Shift": 8}
KEYS: Final = {"Enter": "\r", " ": " "}
"""Those that have a text too."""


class Browser:
    """A process, and what it says."""

    def __init__(self, home: Path) -> None:
        hear, theirs = os.pipe()
        from_us, self._speak = os.pipe()
        self._hear = os.fdopen(hear, "rb")
        # Descriptor 3 is what it reads, 4 what it writes.
        self.process = subprocess.Popen(
            (
                *("bash", "-c", f'exec "$@" 3<&{from_us} 4>&{theirs}', "bash"),
                *("chromium", *FLAGS, f"--user-data-dir={home}", "about:blank"),
            ),
            pass_fds=(from_us, theirs),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(home), "TMPDIR": str(home), "TZ": "UTC"},
        )
        os.close(theirs)
        os.close(from_us)
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self._heard = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        rest = b""
        with contextlib.suppress(OSError, ValueError):
            while part := self._hear.read1(1 << 20):
                *messages, rest = (rest + part).split(b"\0")
                with self._heard:
                    for message in map(json.loads, messages):
                        if "id" in message:
                            self._answers[message["id"]] = message
                        else:
                            self.events.append(message)
                    self._heard.notify_all()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Have something done, and return what comes of it."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._speak, json.dumps(message).encode() + b"\0")
        with self._heard:
            assert self._heard.wait_for(lambda: number in self._answers, PATIENCE), method
            answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer)
        found: dict[str, Any] = answer["result"]
        return found

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self._speak)
        with contextlib.suppress(OSError):
            self._hear.close()


class Tab:
    """A page."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        self.size(1280, 800)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have something done in this page."""
        return self._browser.call(method, self._session, **parameters)

    def events(self, *methods: str) -> list[dict[str, Any]]:
        """Return what has happened in it."""
        return [
            event["params"]
            for event in tuple(self._browser.events)
            if event.get("sessionId") == self._session and event["method"] in methods
        ]

    def go(self, url: str) -> None:
        """Open an address and wait until all of it is there."""
        before = len(self.events("Page.loadEventFired"))
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        wait_until(lambda: len(self.events("Page.loadEventFired")) > before, f"{url} is loaded")

    def evaluate(self, expression: str) -> Any:
        """Return what JavaScript says, as JSON can tell it; the test's, not the page's."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def expect(self, expression: str) -> Any:
        """Wait until it is true, and return it."""
        wait_until(lambda: self.evaluate(expression), expression)
        return self.evaluate(expression)

    def texts(self, selector: str) -> list[str]:
        """Return what can be read in all elements of a kind."""
        found: list[str] = self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText.trim())"
        )
        return found

    def size(self, width: int, height: int, scale: float = 1) -> None:
        """Make it so large."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def prefer(self, scheme: str) -> None:
        """Have the system's colours be light or dark."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def press(self, *keys: str) -> None:
        """Press keys, as `a`, `Enter`, `ArrowLeft`, `?`."""
        for key in keys:
            text = KEYS.get(key, key if len(key) == 1 else "")
            for kind in ("keyDown", "keyUp"):
                more = {"text": text} if text and kind == "keyDown" else {}
                code = {"Enter": 13, "Escape": 27, "Tab": 9, " ": 32}.get(key, 0)
                self.call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    windowsVirtualKeyCode=code,
                    **more,
                )

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of an element."""
        place = self.expect(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " if (!e) return null; e.scrollIntoView({block: 'nearest'});"
            " const b = e.getBoundingClientRect();"
            " return {x: b.x + b.width / 2, y: b.y + b.height / 2}; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def picture(self, path: Path) -> None:
        """Write what is seen."""
        # The pointer is nowhere, and nothing has the focus.
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    @property
    def requests(self) -> list[str]:
        """Return what it has asked for, wherever."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    @property
    def complaints(self) -> list[str]:
        """Return what the browser did not like: errors, warnings, violations of the policy."""
        found = [
            str(event)
            for event in self.events(
                "Runtime.exceptionThrown", "Audits.issueAdded", "Network.loadingFailed"
            )
            if not event.get("canceled")
        ]
        found += [e["entry"]["text"] for e in self.events("Log.entryAdded")]
        return found + [str(e["args"]) for e in self.events("Runtime.consoleAPICalled")]

    def close(self) -> None:
        """Close it."""
        self._browser.call("Target.closeTarget", targetId=self._target)


@contextlib.contextmanager
def start() -> Iterator[Browser]:
    """Run one."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = Browser(Path(home))
        try:
            yield browser
        finally:
            browser.close()
