"""Run a command as its own process group, and end the whole group when the caller ends."""

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
_PROGRESS = re.compile(r"\d%\|")


class ProcessError(RuntimeError):
    """The command ended with an error; the message holds its last lines."""


def run_process(
    command: Sequence[str],
    *,
    on_line: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    with_output: bool = True,
    grace_seconds: float = _GRACE_SECONDS,
) -> None:
    """Run `command`, hand each line it prints to `on_line`, and wait for its end.

    `with_output=False` hands on what it says on standard error only: a command's result may be meant for a program. A
    progress bar's carriage return ends a line as well. Whatever ends this function (an error, Ctrl-C, a Dagster run
    that is terminated) ends the command's process group: SIGTERM, so that it can save its state, then after
    `grace_seconds` SIGKILL. What the command leaves running when it ends is ended too: a worker that outlives its
    launcher would hold the output, and the GPU, for ever. On Linux the command is told even when this process is
    killed outright.

    Raises:
        ProcessError: the command's exit status is not 0.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if with_output else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if with_output else subprocess.PIPE,
        text=True,  # with universal newlines, which is what makes a carriage return end a line
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        start_new_session=True,
        preexec_fn=_end_with_parent(os.getpid()) if sys.platform == "linux" else None,
    )
    last: deque[str] = deque(maxlen=20)
    threading.Thread(target=_end_when_ended, args=(process, grace_seconds), daemon=True).start()
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


def without_most_progress(on_line: Callable[[str], None], *, seconds: float = 15.0) -> Callable[[str], None]:
    """Hand on every line but those of a progress bar ("12%|"), of which one each `seconds` is enough for a log."""
    shown = -math.inf

    def filtered(line: str) -> None:
        nonlocal shown
        if _PROGRESS.search(line):
            if time.monotonic() - shown < seconds:
                return
            shown = time.monotonic()
        on_line(line)

    return filtered


def _end_when_ended(process: subprocess.Popen, grace_seconds: float) -> None:
    """Wait for the command, then end the children that it left: until then they keep its output open."""
    process.wait()
    end = time.monotonic() + grace_seconds
    some = _signal_group(process.pid, signal.SIGTERM)
    while some and time.monotonic() < end:
        time.sleep(0.1)
        some = _signal_group(process.pid, 0)
    if some:
        _signal_group(process.pid, signal.SIGKILL)


def _end_group(process: subprocess.Popen, grace_seconds: float) -> None:
    """End what is left of the group: also the children of a command that itself has ended."""
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
    """Send a signal to all of a group; False when nobody is left in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent(parent: int) -> Callable[[], None]:
    """To run in the child, before the command starts: ask the kernel for SIGTERM when the parent dies.

    The command hears SIGTERM even if it was ignored or held back where the parent comes from, which a child inherits.
    """

    def ask() -> None:
        assert _LIBC is not None
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the kernel was asked
            os.kill(os.getpid(), signal.SIGTERM)

    return ask
