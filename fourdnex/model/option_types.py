"""Types of options shared by several settings classes. Imports no torch: the command line and the graph read them."""

from typing import Literal

FusionName = Literal["width", "height", "frame", "batch", "batch-cross-modal", "channel"]
"""How RGB and XYZ are joined (see `fourdnex.model.fusion`)."""

Positions = Literal["shared", "own"]
"""Rotary positions of a pixel's RGB and XYZ tokens: one shared position, or one each."""

Precision = Literal["auto", "fp32", "bf16"]
"""Compute precision; auto selects by device (see `fourdnex.model.precision`)."""

TARGET_MODULES = ("to_q", "to_k", "to_v", "to_out.0")
"""Default layers with LoRA matrices, as name suffixes; those of the reference weights."""
