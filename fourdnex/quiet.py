"""Keeping libraries from speaking where nobody asked."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def without_torchvision_note() -> None:
    """No note of transformers that torchvision is missing: diffusers asks for a class that has a stand-in without it.

    It takes no import of transformers, and may be called again.
    """
    logging.getLogger("transformers.utils.import_utils").addFilter(_is_no_torchvision_note)


def _is_no_torchvision_note(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "`CLIPImageProcessor` requires torchvision" not in message


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of diffusers and transformers, which draw one for each part of a model that is read."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    loud = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in loud:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in loud:
            library.enable_progress_bar()
