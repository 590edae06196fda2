"""The 6D video model: fusion, transformer, conditioning, latent codec, pipeline, adapters."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fourdnex.model.adapter import load_adapter
    from fourdnex.model.checkpoint_conversion import load_reference_weights
    from fourdnex.model.conditioning import condition_latents
    from fourdnex.model.transformer import SixDTransformer

__all__ = ["SixDTransformer", "condition_latents", "load_adapter", "load_reference_weights"]

_HOMES = {
    "SixDTransformer": "fourdnex.model.transformer",
    "condition_latents": "fourdnex.model.conditioning",
    "load_adapter": "fourdnex.model.adapter",
    "load_reference_weights": "fourdnex.model.checkpoint_conversion",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use (PEP 562): settings and presets are read without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fourdnex.model' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
