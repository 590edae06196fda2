"""The recipe: what encoding, training and generation must agree upon.

Each choice is an option with a measured effect (`fourdnex ablate`). A training run's settings and an adapter's
`adapter.json` are recipes with more fields; generation and evaluation do what the adapter's recipe says.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from fourdnex.model.option_types import FusionName, Positions

Normalize = Literal["clip", "frame"]
XyzInit = Literal["plane", "pointmap"]
Decode = Literal["apart", "joint"]
Condition = Literal["apart", "joint"]

ENCODED_CHOICES = ("normalization", "xyz_init", "condition")
"""Fields of a recipe that latents are encoded by."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How RGB and XYZ become the transformer's input, and its output becomes RGB and XYZ again."""

    fusion: FusionName = "width"
    """How RGB and XYZ latents are joined (`fourdnex.model.fusion`)."""
    positions: Positions = "shared"
    """A pixel's RGB and XYZ token share one rotary position, as in the public code, or keep their own."""
    normalization: Normalize = "clip"
    """Point maps are centered and scaled once a clip, or centered frame by frame, as the public code does."""
    statistics_from: Literal["data", "reference"] = "data"
    """XYZ latents are normalized by the statistics of the training data, or by the public code's -0.13 and 1.70."""
    xyz_init: XyzInit = "plane"
    """First frame of the XYZ condition: the public code's sloped plane, or a given point map of the image."""
    xyz_mask: float = 0.5
    """Guided mask on the first XYZ frame; on RGB it is 1."""
    condition: Condition = "apart"
    """The first RGB and XYZ frames are encoded one by one, or side by side in one pass of the VAE, as the reference
    implementation does, which mixes them near the seam; joint needs width-wise fusion."""
    decode: Decode = "apart"
    """RGB and XYZ latents are decoded one by one, or side by side in one go, as the public code does."""

    def __post_init__(self) -> None:
        hints = get_type_hints(Recipe)
        for name, value in self.choices().items():
            if (allowed := get_args(hints[name])) and value not in allowed:
                raise ValueError(f"{name}: expected one of {allowed}, got {value!r}")
        if not 0 <= self.xyz_mask <= 1:
            raise ValueError(f"xyz_mask: expected a number in [0, 1], got {self.xyz_mask}")
        if self.condition == "joint" and self.fusion != "width":
            raise ValueError(
                f"condition: expected apart with {self.fusion} fusion, got joint: "
                "only width-wise fusion has RGB and XYZ side by side"
            )

    def check_first_pointmaps(self, given: bool) -> None:
        """Whether first point maps are given fits `xyz_init`.

        Raises:
            ValueError: if it does not.
        """
        if given != (self.xyz_init == "pointmap"):
            expected, got = ("none", "point maps") if given else ("point maps", "none")
            raise ValueError(
                f"first_pointmaps: expected {expected} for an adapter trained with xyz_init {self.xyz_init!r}, got {got}"
            )

    def choices(self) -> dict[str, Any]:
        """The recipe's own fields, also of a class that has more."""
        return {field.name: getattr(self, field.name) for field in fields(Recipe)}


def recorded(values: dict[str, Any]) -> dict[str, Any]:
    """`values` without choices that came later and have the value that was the only one before.

    Digests and fingerprints are taken of these, so that a new choice makes no old product another one.
    """
    return {
        key: recorded(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if _BEFORE.get(key) is None or value != _BEFORE[key]
    }


_BEFORE = {"condition": "apart", "size": "fixed", "precision": "fp32"}

REFERENCE_RECIPE = Recipe(normalization="frame", statistics_from="reference", condition="joint", decode="joint")
"""What the public 4DNeX code does."""
