"""How clips are sampled, declared once: presets, pipeline, command line, graph and benchmarks read this class."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from fourdnex.io.files import sha256_file

SchedulerName = Literal["base", "euler"]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Everything between noise and latents that is a choice; the defaults are those of the public 4DNeX code."""

    num_inference_steps: int = 50
    """Sampling steps."""
    guidance_scale: float = 5.0
    """Classifier-free guidance; 1 runs the model without it."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest noise level at which guidance acts; beyond them a step costs one pass."""
    joint_guidance: bool = True
    """With and without the prompt in one forward pass of twice the batch; two passes need half the memory."""
    ensemble_size: int = 1
    """Samples an image, of whose latents the mean is decoded."""
    cache_threshold: float = 0.0
    """FirstBlockCache: a change of the first block's residual below which the other blocks are not run; 0 is off."""
    scheduler: SchedulerName = "base"
    """The base's own, or Euler steps, as step-distilled LoRA weights are made for."""
    flow_shift: float | None = None
    """How far the steps are shifted to high noise; the base's own if not given."""
    distilled_lora: Path | None = None
    """Step-distilled LoRA weights (safetensors) beside the adapter; steps, guidance and scheduler follow it."""
    distilled_scale: float = 1.0
    """Factor of those weights' update."""

    def __post_init__(self) -> None:
        for name in ("num_inference_steps", "ensemble_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.guidance_scale < 1:
            raise ValueError(f"guidance_scale: expected at least 1, got {self.guidance_scale}")
        low, high = self.guidance_interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"guidance_interval: expected two noise levels, 0 <= low < high <= 1, got {low} {high}")
        if not 0 <= self.cache_threshold < 1:
            raise ValueError(f"cache_threshold: expected a number in [0, 1), got {self.cache_threshold}")
        if self.scheduler not in get_args(SchedulerName):
            raise ValueError(f"scheduler: expected one of {get_args(SchedulerName)}, got {self.scheduler!r}")
        if self.flow_shift is not None and self.flow_shift <= 0:
            raise ValueError(f"flow_shift: expected a positive number, got {self.flow_shift}")
        if self.distilled_lora is None and self.distilled_scale != 1:
            raise ValueError(f"distilled_scale: expected a distilled_lora with it, got {self.distilled_scale} alone")
        if self.distilled_lora is not None and self.is_guided:
            raise ValueError(
                f"guidance_scale: expected 1 with a step-distilled LoRA, which has guidance in it, "
                f"got {self.guidance_scale}"
            )

    def with_changes(self, **changes: Any) -> SamplingSettings:
        """These settings but for `changes`; a step-distilled LoRA brings what it was made for, if not given.

        Raises:
            TypeError: for a name that is no field.
            ValueError: for a value that does not fit, or one of guidance where there is none.
        """
        own = DISTILLED_SAMPLING if changes.get("distilled_lora") is not None else {}
        changed = replace(self, **{**own, **changes})
        for name in ("guidance_interval", "joint_guidance"):
            if name in changes and not changed.is_guided:
                raise ValueError(f"{name}: expected a guidance_scale above 1 with it, got {changed.guidance_scale}")
        return changed

    @property
    def is_guided(self) -> bool:
        return self.guidance_scale > 1

    def guides_at(self, noise_level: float) -> bool:
        """Whether guidance acts at a noise level in [0, 1]."""
        low, high = self.guidance_interval
        return self.is_guided and low <= noise_level <= high

    def to_json(self) -> dict[str, Any]:
        """As provenance keeps it: equal settings give equal JSON. LoRA weights stand by their digest.

        Raises:
            FileNotFoundError: if there is no such file.
        """
        digest = None if self.distilled_lora is None else sha256_file(self.distilled_lora)[:16]
        return asdict(self) | {"guidance_interval": list(self.guidance_interval), "distilled_lora": digest}


DISTILLED_SAMPLING: dict[str, Any] = {
    "num_inference_steps": 4,
    "guidance_scale": 1.0,
    "ensemble_size": 1,
    "scheduler": "euler",
    "flow_shift": 5.0,
}
"""What the published step-distilled LoRA weights for Wan 2.1 are made for (lightx2v's: 4 steps, shift 5)."""
