"""Suppression of warnings and progress bars of third-party libraries."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def hide_torchvision_warning() -> None:
    """Drop the warning of transformers that torchvision is missing; it is a false alarm.

    diffusers asks for a class that transformers replaces by a stand-in when torchvision is not installed. Does not
    import transformers, and may be called more than once.
    """
    logging.getLogger("transformers.utils.import_utils").addFilter(_is_not_torchvision_warning)


def _is_not_torchvision_warning(record: logging.LogRecord) -> bool:
    """Logging filter: False for the warning about torchvision."""
    return "`CLIPImageProcessor` requires torchvision" not in record.getMessage()


@contextmanager
def hide_progress_bars() -> Iterator[None]:
    """Disable the progress bars of diffusers and transformers, which show one for every loaded component."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    enabled = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in enabled:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in enabled:
            library.enable_progress_bar()
