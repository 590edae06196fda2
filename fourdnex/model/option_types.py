"""Names that settings are written in. Nothing heavy is imported here: the command line and the graph read them."""

from typing import Literal

FusionName = Literal["width", "height", "frame", "batch", "batch-cross-modal", "channel"]
"""How RGB and XYZ are joined: see `fourdnex.model.fusion`."""

Positions = Literal["shared", "own"]
"""Rotary positions of an RGB token and its XYZ partner."""

Precision = Literal["auto", "fp32", "bf16"]
"""What a base computes in; auto is the device's own: see `fourdnex.model.precision`."""

TARGET_MODULES = ("to_q", "to_k", "to_v", "to_out.0")
"""Endings of the names of the layers that get LoRA matrices unless told otherwise: those of the public weights."""
