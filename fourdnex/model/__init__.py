"""The 6D video model: fusion, transformer, conditioning, pipeline and adapters."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourdnex.model.adapter import load_adapter
    from fourdnex.model.checkpoint_conversion import load_reference_weights, load_upstream_weights
    from fourdnex.model.conditioning import condition_latents
    from fourdnex.model.transformer import SixDTransformer

__all__ = ["SixDTransformer", "condition_latents", "load_adapter", "load_reference_weights", "load_upstream_weights"]

_MODULES = {
    "SixDTransformer": "fourdnex.model.transformer",
    "condition_latents": "fourdnex.model.conditioning",
    "load_adapter": "fourdnex.model.adapter",
    "load_reference_weights": "fourdnex.model.checkpoint_conversion",
    "load_upstream_weights": "fourdnex.model.checkpoint_conversion",  # deprecated
}


def __getattr__(name: str) -> Any:
    """Import public names on first use (PEP 562), so that settings and presets can be read without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'fourdnex.model' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted(__all__)
