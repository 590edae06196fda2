"""Generation: single images and collections of images to scenes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourdnex.generation.collections import CollectionReport, generate_collection
    from fourdnex.generation.scenes import generate
    from fourdnex.io.images import read_image

__all__ = ["CollectionReport", "generate", "generate_collection", "read_image"]

_HOMES = {
    "CollectionReport": "fourdnex.generation.collections",
    "generate": "fourdnex.generation.scenes",
    "generate_collection": "fourdnex.generation.collections",
    "read_image": "fourdnex.io.images",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use: reading an image should not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fourdnex.generation' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
