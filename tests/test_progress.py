"""Progress bars: on terminals only, with rate and time left, and only where a command turns them on."""

import io
import sys
import time
from contextlib import contextmanager

import pytest

from fourdnex.progress import progress_bar, show_progress, track, write_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def terminal():
    """Replaces stderr within a test: pytest sets it again between a fixture and its test."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stderr", stream := Terminal())
        yield stream


def slow_items(count: int):
    for item in range(count):
        time.sleep(0.3)
        yield item


def test_a_terminal_shows_a_bar_with_rate_and_time_left():
    with terminal() as stream, show_progress():
        assert list(track(slow_items(4), desc="encode", unit="clip", total=4)) == [0, 1, 2, 3]
    shown = stream.getvalue()
    assert "encode: 100%" in shown and "4/4" in shown and " clip" in shown


def test_short_loops_show_nothing():
    with terminal() as stream, show_progress():
        assert list(track("abc", desc="encode", unit="clip")) == ["a", "b", "c"]
    assert stream.getvalue() == ""


def test_files_get_nothing_in_the_first_seconds(capsys):
    with show_progress():
        list(track(slow_items(3), desc="encode", unit="clip", total=3))
    assert capsys.readouterr().err == ""


def test_the_library_shows_nothing_by_itself():
    with terminal() as stream:
        list(track(slow_items(3), desc="encode", unit="clip", total=3))
        with progress_bar(10, desc="train", unit="s") as advance:
            advance(4)
    assert stream.getvalue() == ""


def test_lines_go_to_stderr(capsys):
    write_line("clip-0: annotated")
    assert capsys.readouterr() == ("", "clip-0: annotated\n")
