"""Run a command in its own process group, and end the whole group when the caller ends."""

import ctypes
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

_GRACE_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_PROGRESS_BAR = re.compile(r"\d%\|")


class ProcessError(RuntimeError):
    """The command failed; the message holds its last lines."""


def run_process(
    command: Sequence[str],
    *,
    on_line: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    with_stdout: bool = True,
    grace_seconds: float = _GRACE_SECONDS,
) -> None:
    """Run `command`, pass each line of its output to `on_line`, and wait for it to end.

    A carriage return ends a line too, so each state of a progress bar is a line. When this function is interrupted (by
    an error, Ctrl-C, or a canceled Dagster run), the command's process group is ended: SIGTERM, so that it can save its
    state, then SIGKILL after `grace_seconds`. Processes that the command leaves behind are ended too: a worker that
    outlives its launcher would keep the output open and the GPU in use. On Linux, the command receives SIGTERM even if
    this process is killed with SIGKILL.

    Args:
        on_line: called with each line, without trailing whitespace.
        environment: variables to set or replace.
        with_stdout: False passes on standard error only, for a command whose standard output is meant for programs.
        grace_seconds: time between SIGTERM and SIGKILL.

    Raises:
        ProcessError: the command's exit status is not 0.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if with_stdout else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if with_stdout else subprocess.PIPE,
        text=True,  # universal newlines, so that a carriage return ends a line
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        start_new_session=True,
        preexec_fn=_end_with_parent(os.getpid()) if sys.platform == "linux" else None,
    )
    last: deque[str] = deque(maxlen=20)
    threading.Thread(target=_end_orphans, args=(process, grace_seconds), daemon=True).start()
    try:
        lines = process.stdout or process.stderr
        assert lines is not None
        for line in lines:
            if line := line.rstrip():
                last.append(line)
                on_line(line)
        status = process.wait()
    finally:
        _end_group(process, grace_seconds)
    if status != 0:
        raise ProcessError(f"{' '.join(command)}: exit status {status}\n" + "\n".join(last))


def throttle_progress(on_line: Callable[[str], None], *, seconds: float = 15.0) -> Callable[[str], None]:
    """Pass on all lines, but progress bars ("12%|") at most once per `seconds`."""
    last_shown = -math.inf

    def filtered(line: str) -> None:
        """Pass on a line unless it is a progress bar that comes too early."""
        nonlocal last_shown
        if _PROGRESS_BAR.search(line):
            if time.monotonic() - last_shown < seconds:
                return
            last_shown = time.monotonic()
        on_line(line)

    return filtered


def _end_orphans(process: subprocess.Popen[str], grace_seconds: float) -> None:
    """Wait for the command, then end the children that it left behind, which keep its output open."""
    process.wait()
    end = time.monotonic() + grace_seconds
    alive = _signal_group(process.pid, signal.SIGTERM)
    while alive and time.monotonic() < end:
        time.sleep(0.1)
        alive = _signal_group(process.pid, 0)
    if alive:
        _signal_group(process.pid, signal.SIGKILL)


def _end_group(process: subprocess.Popen[str], grace_seconds: float) -> None:
    """End all processes of the group, including children of a command that has already ended."""
    try:
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=grace_seconds)
        except subprocess.TimeoutExpired:
            pass  # SIGKILL follows
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False if the group is empty."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent(parent: int) -> Callable[[], None]:
    """A `preexec_fn` that requests SIGTERM from the kernel when the parent dies.

    It also resets SIGTERM, which the child would inherit as ignored or blocked if the parent ignores or blocks it.
    """

    def request_signal() -> None:
        """Runs in the child, before the command starts."""
        assert _LIBC is not None
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before the request
            os.kill(os.getpid(), signal.SIGTERM)

    return request_signal
