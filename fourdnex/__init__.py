"""Generates 4D scenes from single images, and trains, evaluates and registers the model that does."""

from typing import TYPE_CHECKING, Any

from fourdnex.quiet import hide_torchvision_warning
from fourdnex.telemetry import disable_telemetry

if TYPE_CHECKING:
    from fourdnex.clip import Clip
    from fourdnex.generation import generate
    from fourdnex.scene import Scene4D

hide_torchvision_warning()
disable_telemetry()  # before the first import of a library that reads these variables

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
