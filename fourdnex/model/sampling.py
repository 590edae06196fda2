"""Sampling settings, shared by presets, pipeline, command line, graph and benchmarks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from fourdnex.io.files import sha256_file

SchedulerName = Literal["base", "euler"]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Settings of the sampling loop. Defaults are those of the reference 4DNeX implementation."""

    num_inference_steps: int = 50
    """Number of sampling steps."""
    guidance_scale: float = 5.0
    """Scale of classifier-free guidance; 1 disables it."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Min and max noise level at which guidance is applied; other steps need one forward pass instead of two."""
    joint_guidance: bool = True
    """Run the conditional and unconditional passes of guidance as one batch; separate passes need half the memory."""
    ensemble_size: int = 1
    """Number of samples per image, whose latents are averaged."""
    cache_threshold: float = 0.0
    """Threshold of FirstBlockCache: the other blocks are skipped if the first block's residual changes by less,
    relatively; 0 disables the cache."""
    scheduler: SchedulerName = "base"
    """Scheduler. base: the base's scheduler; euler: Euler steps, as required by step-distilled LoRA weights."""
    flow_shift: float | None = None
    """Shift of the noise schedule toward high noise; default: the base's."""
    distilled_lora: Path | None = None
    """Step-distilled LoRA weights (safetensors), added to the adapter; sets steps, guidance and scheduler."""
    distilled_scale: float = 1.0
    """Scale of the step-distilled LoRA weights."""

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
            raise ValueError(
                f"distilled_scale: expected a distilled_lora with this option, got {self.distilled_scale} without one"
            )
        if self.distilled_lora is not None and self.is_guided:
            raise ValueError(
                f"guidance_scale: expected 1 with a step-distilled LoRA, which includes guidance, "
                f"got {self.guidance_scale}"
            )

    def with_changes(self, **changes: Any) -> SamplingSettings:
        """These settings with `changes`; a step-distilled LoRA also sets the fields of `DISTILLED_SAMPLING`.

        Raises:
            TypeError: if a name is not a field.
            ValueError: if a value is invalid, or an option of guidance is set without guidance.
        """
        defaults = DISTILLED_SAMPLING if changes.get("distilled_lora") is not None else {}
        changed = replace(self, **{**defaults, **changes})
        for name in ("guidance_interval", "joint_guidance"):
            if name in changes and not changed.is_guided:
                raise ValueError(
                    f"{name}: expected a guidance_scale above 1 with this option, got {changed.guidance_scale}"
                )
        return changed

    @property
    def is_guided(self) -> bool:
        """Whether classifier-free guidance is used."""
        return self.guidance_scale > 1

    def guides_at(self, noise_level: float) -> bool:
        """Whether guidance is applied at a noise level in [0, 1]."""
        low, high = self.guidance_interval
        return self.is_guided and low <= noise_level <= high

    def to_json(self) -> dict[str, Any]:
        """Settings for provenance: equal settings give equal JSON, with LoRA weights represented by their digest.

        Raises:
            FileNotFoundError: if the LoRA file is missing.
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
"""Settings for the published step-distilled LoRA weights for Wan 2.1 (lightx2v: 4 steps, shift 5)."""
