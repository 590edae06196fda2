"""Headless Chromium for tests and benchmarks, controlled through its DevTools pipe without packages or ports.

It has no network access: every host name except the loopback address fails to resolve.
"""

import base64
import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from select import select
from types import TracebackType
from typing import Any

import numpy as np

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--disable-background-networking --disable-component-update --disable-sync --disable-extensions "
    "--disable-default-apps --disable-dev-shm-usage --no-first-run --no-default-browser-check --mute-audio "
    "--hide-scrollbars --remote-debugging-pipe"
).split()


def find_chromium() -> str | None:
    """Path of the browser: $CHROMIUM, or the first of the usual names on the PATH; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


class Chromium:
    """A browser with one page; a context manager.

    `requests` has the URLs requested so far, `errors` the errors and warnings of the console, and `bytes_received` the
    bytes transferred.
    """

    def __init__(self, program: str, *, width: int = 1280, height: int = 800) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.bytes_received = 0
        self._buffer, self._last_id, self._session = b"", 0, ""
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        size = f"--window-size={width},{height}"
        loopback = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
        command = [program, *_FLAGS, size, loopback, f"--user-data-dir={self._profile}"]
        self._spawn(command)
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", metrics)

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def open(self, url: str) -> None:
        """Navigate to a URL; AssertionError if that fails."""
        answer = self._call("Page.navigate", {"url": url})
        if answer.get("errorText"):
            raise AssertionError(f"{url}: {answer['errorText']}")

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page; promises are awaited."""
        parameters = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", parameters)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    def wait_for(self, expression: str, *, seconds: float = 60.0) -> Any:
        """Evaluate the expression until it is true, and return its value; AssertionError after `seconds`."""
        end = time.monotonic() + seconds
        while True:
            value = self.evaluate(expression)
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(
                    f"{expression}: expected to become true within {seconds} s, got {value!r}; console: {self.errors}"
                )
            time.sleep(0.05)

    def screenshot(self) -> np.ndarray:
        """The page as [H, W, 3] uint8."""
        import cv2

        png = base64.b64decode(self._call("Page.captureScreenshot", {"format": "png"})["data"])
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return image[..., ::-1]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Dispatch a mouse event: mousePressed, mouseMoved, mouseReleased or mouseWheel."""
        self._call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **more})

    def close(self) -> None:
        """Close the browser, or kill it after 10 seconds."""
        with suppress(BrokenPipeError):
            self._send("Browser.close", {}, session="")
        end = time.monotonic() + 10
        while os.waitpid(self._process, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
                break
            time.sleep(0.02)
        os.close(self._read)
        os.close(self._write)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _spawn(self, command: list[str]) -> None:
        """Start the browser, which reads commands from file descriptor 3 and writes answers to 4."""
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # Duplicates above 3 and 4, which the child process overwrites.
        safe = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in (to_read, to_write)]
        log = str(Path(self._profile) / "stderr.log")
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, safe[0], 3), (os.POSIX_SPAWN_DUP2, safe[1], 4)]
        actions += [(os.POSIX_SPAWN_OPEN, descriptor, log, os.O_WRONLY | os.O_CREAT, 0o600) for descriptor in (1, 2)]
        self._process = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        for descriptor in (to_read, to_write, *safe):
            os.close(descriptor)

    def _call(self, method: str, parameters: dict[str, Any] | None = None, *, seconds: float = 120.0) -> dict[str, Any]:
        """Call a DevTools method and return its result; events received meanwhile are recorded."""
        request_id = self._send(method, parameters or {}, session=self._session)
        end = time.monotonic() + seconds
        while True:
            message = self._receive(end - time.monotonic())
            if message.get("id") == request_id:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            self._record(message)

    def _send(self, method: str, parameters: dict[str, Any], *, session: str) -> int:
        """Send a command; its id."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._last_id

    def _receive(self, seconds: float) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self._buffer:
            if not select([self._read], [], [], max(seconds, 0))[0]:
                raise AssertionError(f"no answer from the browser within {seconds:.0f} s")
            read = os.read(self._read, 1 << 20)
            if not read:
                raise AssertionError("the browser closed its pipe")
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _record(self, message: dict[str, Any]) -> None:
        """Record a network or console event."""
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Network.loadingFinished":
            self.bytes_received += int(parameters["encodedDataLength"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(str([item.get("value") for item in parameters["args"]]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
