"""The recipe: choices on which encoding, training and generation must agree.

`fourdnex ablate` measures the effect of each choice. Training settings and `adapter.json` are recipes with more
fields; generation and evaluation follow the adapter's recipe.
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
"""Fields of a recipe that the encoded latents depend on."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How RGB and XYZ are converted to the transformer's input, and its output back to RGB and XYZ."""

    fusion: FusionName = "width"
    """How RGB and XYZ latents are joined (see `fourdnex.model.fusion`)."""
    positions: Positions = "shared"
    """Rotary positions of a pixel's RGB and XYZ tokens. shared: both have the same position, as in the reference
    implementation; own: each has its position in the joined tensor."""
    normalization: Normalize = "clip"
    """Normalization of point maps. clip: one center and scale per clip; frame: one center per frame, as in the
    reference implementation."""
    statistics_from: Literal["data", "reference"] = "data"
    """Statistics that normalize XYZ latents. data: those of the training data; reference: the mean -0.13 and standard
    deviation 1.70 of the reference implementation."""
    xyz_init: XyzInit = "plane"
    """First frame of the XYZ condition. plane: the sloped plane of the reference implementation; pointmap: a
    first-frame point map of the image."""
    xyz_mask: float = 0.5
    """Value of the guided mask on the first XYZ frame, in [0, 1]; on the first RGB frame it is 1."""
    condition: Condition = "apart"
    """Encoding of the first RGB and XYZ frames. apart: one by one; joint: side by side in one pass of the VAE, as in
    the reference implementation, which mixes them near the seam. joint requires width fusion."""
    decode: Decode = "apart"
    """Decoding of RGB and XYZ latents. apart: one by one; joint: side by side in one pass, as in the reference
    implementation."""

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
                "only width fusion has RGB and XYZ side by side"
            )

    def check_first_pointmaps(self, given: bool) -> None:
        """Check whether passing (or not passing) first-frame point maps agrees with `xyz_init`.

        Raises:
            ValueError: if it does not; the message names the options to add or remove.
        """
        if given and self.xyz_init == "plane":
            raise ValueError(
                "first_pointmaps: this adapter starts from the sloped plane (xyz_init='plane'): remove "
                "--first-frame-geometry and --depth-network (first_frame_geometry, depth_network)"
            )
        if not given and self.xyz_init == "pointmap":
            raise ValueError(
                "first_pointmaps: this adapter needs a first-frame point map (xyz_init='pointmap'): pass "
                "--depth-network or --first-frame-geometry (depth_network, first_frame_geometry)"
            )

    def choices(self) -> dict[str, Any]:
        """Fields of `Recipe` and their values, without those that a subclass adds."""
        return {field.name: getattr(self, field.name) for field in fields(Recipe)}


def recorded(values: dict[str, Any]) -> dict[str, Any]:
    """`values` without fields that were added later and have the value that applied before.

    Digests and fingerprints are computed from the result, so that new fields do not change existing ones.
    """
    return {
        key: recorded(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if _INITIAL_VALUES.get(key) is None or value != _INITIAL_VALUES[key]
    }


_INITIAL_VALUES = {"condition": "apart", "size": "fixed", "precision": "fp32"}

REFERENCE_RECIPE = Recipe(normalization="frame", statistics_from="reference", condition="joint", decode="joint")
"""Choices of the reference 4DNeX implementation."""
