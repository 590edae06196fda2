"""Single images to 4D scenes: generate them, and own the whole life of the model that does."""

from typing import TYPE_CHECKING, Any

from fourdnex.quiet import without_torchvision_note
from fourdnex.telemetry import switch_off

if TYPE_CHECKING:
    from fourdnex.clip import Clip
    from fourdnex.generation import generate
    from fourdnex.scene import Scene4D

without_torchvision_note()
switch_off()  # libraries read it when they are imported, which no module does before this one

__version__ = "0.1.0"
__all__ = ["Clip", "Scene4D", "__version__", "generate"]

_HOMES = {"Clip": "fourdnex.clip", "Scene4D": "fourdnex.scene", "generate": "fourdnex.generation"}


def __getattr__(name: str) -> Any:
    """Import the public names on first use (PEP 562), so that `import fourdnex` stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fourdnex' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
