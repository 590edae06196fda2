"""Interruption of a training run between two steps, by SIGTERM or SIGINT."""

from __future__ import annotations

import signal
from collections.abc import Callable


class TrainingInterrupted(BaseException):
    """A run stopped on a signal, after writing a checkpoint; like KeyboardInterrupt, it is not an error."""


class StopSignals:
    """Context in which SIGTERM and SIGINT only set a flag, so that the current step is completed.

    Entering returns a function that tells whether a signal arrived; leaving restores the previous handlers.
    """

    def __enter__(self) -> Callable[[], bool]:
        self._received = False
        signals = (signal.SIGTERM, signal.SIGINT)
        self._previous = {number: signal.signal(number, self._receive) for number in signals}
        return lambda: self._received

    def _receive(self, *_: object) -> None:
        """Signal handler."""
        self._received = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
