import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestration.processes import ProcessError, run_process, throttle_progress

# A command that starts a child process, like a launcher of workers, and prints both process ids.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(f"{os.getpid()} {child.pid}", flush=True)
time.sleep(600)
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
# Leaves behind a child that ignores SIGTERM and keeps standard error open.
ORPHAN = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
os._exit(3)
"""


def wait_until(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


class Stop(BaseException):
    """An interruption like that of a Dagster step: not an `Exception`."""


def test_lines_and_states_of_a_progress_bar_arrive_one_by_one():
    lines: list[str] = []
    code = "import sys; sys.stderr.write('10%\\r20%\\n'); sys.stderr.flush(); print('done ü')"
    run_process([sys.executable, "-c", code], on_line=lines.append)
    assert lines == ["10%", "20%", "done ü"]


def test_the_environment_reaches_the_command():
    lines: list[str] = []
    code = "import os; print(os.environ['FOURDNEX_X'])"
    run_process([sys.executable, "-c", code], on_line=lines.append, environment={"FOURDNEX_X": "7"})
    assert lines == ["7"]


def test_standard_output_can_be_omitted():
    lines: list[str] = []
    code = "import sys; print('result'); print('said', file=sys.stderr)"
    run_process([sys.executable, "-c", code], on_line=lines.append, with_stdout=False)
    assert lines == ["said"]


def test_progress_bars_are_throttled():
    lines: list[str] = []
    keep = throttle_progress(lines.append, seconds=3600)
    for line in ("loading", "LoRA:  1%|", "LoRA:  2%|", "saved 5%", "LoRA: 100%|"):
        keep(line)
    assert lines == ["loading", "LoRA:  1%|", "saved 5%"]


def test_the_error_of_a_failed_command_has_its_last_lines():
    with pytest.raises(ProcessError, match=r"exit status 3[\s\S]*no space left"):
        run_process([sys.executable, "-c", "print('no space left'); exit(3)"], on_line=lambda _: None)


def test_an_interrupt_ends_the_command_and_its_children(is_alive):
    pids: list[int] = []

    def note(line: str) -> None:
        pids.extend(map(int, line.split()))
        raise Stop

    with pytest.raises(Stop):
        run_process([sys.executable, "-c", FAMILY], on_line=note)
    assert len(pids) == 2
    assert wait_until(lambda: not any(map(is_alive, pids)))


def test_a_failed_command_does_not_wait_for_its_orphaned_children(is_alive):
    """A worker that outlives its launcher keeps the output open."""
    lines: list[str] = []
    with pytest.raises(ProcessError, match="exit status 3"):
        run_process([sys.executable, "-c", ORPHAN], on_line=lines.append, grace_seconds=0.2)
    assert wait_until(lambda: not is_alive(int(lines[0])))


def test_a_command_that_ignores_sigterm_is_killed():
    def stop(_: str) -> None:
        raise Stop

    with pytest.raises(Stop):
        run_process([sys.executable, "-c", STUBBORN], on_line=stop, grace_seconds=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent death signal")
@pytest.mark.parametrize(
    "before",
    ["pass", "signal.signal(15, signal.SIG_IGN)", "signal.pthread_sigmask(signal.SIG_BLOCK, {15})"],
    ids=["plain", "ignored", "blocked"],
)
def test_the_command_ends_when_the_caller_is_killed_with_sigkill(is_alive, before):
    """Also if the caller ignores or blocks SIGTERM, which a child process inherits."""
    caller = (
        f"import signal, sys; from orchestration.processes import run_process; {before}\n"
        "run_process([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'],"
        " on_line=lambda line: print(line, flush=True))"
    )
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", caller],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert is_alive(pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert wait_until(lambda: not is_alive(pid))
