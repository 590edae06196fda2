"""A base model: its preset and digest, resolved once and passed on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fourdnex.model.presets import Preset, base_digest, get_preset
from fourdnex.model.recipe import Recipe


@dataclass(frozen=True)
class Base:
    """A base model."""

    preset: Preset

    @classmethod
    def resolve(cls, model: str | Path | Base) -> Base:
        """The base of a preset name or folder; a `Base` is returned unchanged.

        Raises:
            ValueError, FileNotFoundError: see `get_preset`.
        """
        return model if isinstance(model, Base) else cls(get_preset(model))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of its weights and configurations (see `base_digest`)."""
        return base_digest(self.preset.location)

    def depth_network_for(self, recipe: Recipe, requested: str | None = None) -> str | None:
        """The depth network that estimates first-frame point maps for adapters of this recipe.

        Args:
            recipe: the adapter's recipe.
            requested: name, folder, hub id or ONNX file of a network; None takes the preset's.

        Returns:
            None if the recipe starts from the sloped plane, or if there is no network.

        Raises:
            ValueError: if a network is requested for a recipe that starts from the sloped plane.
        """
        if requested is not None:
            recipe.check_first_pointmaps(True)
        return None if recipe.xyz_init == "plane" else requested or self.preset.depth_network
