"""Generates 4D scenes from single images, and trains, evaluates and registers the model that does."""

from typing import TYPE_CHECKING, Any

from fourdnex.quiet import without_torchvision_note
from fourdnex.telemetry import switch_off

if TYPE_CHECKING:
    from fourdnex.clip import Clip
    from fourdnex.generation import generate
    from fourdnex.scene import Scene4D

without_torchvision_note()
switch_off()  # before the first import of a library that reads these variables

__version__ = "0.1.0"
__all__ = ["Clip", "Scene4D", "__version__", "generate"]

_MODULES = {"Clip": "fourdnex.clip", "Scene4D": "fourdnex.scene", "generate": "fourdnex.generation"}


def __getattr__(name: str) -> Any:
    """Import the public names on first use (PEP 562), so that `import fourdnex` is fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'fourdnex' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted(__all__)
