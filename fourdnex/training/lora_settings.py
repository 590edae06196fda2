"""Settings and summary of a LoRA fine-tuning run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from fourdnex.model.option_types import TARGET_MODULES
from fourdnex.model.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LoraTraining(Recipe):
    """Settings of a LoRA fine-tuning run, including those of the recipe."""

    latents: Path
    """Folder of latent shards with statistics.json."""
    output: Path
    """Folder of the adapter. Checkpoints are next to it during training."""
    model: str = "tiny"
    """Preset or folder of the base."""
    steps: int = 480
    """Number of training steps."""
    batch_size: int = 8
    """Total number of clips per step, over all processes."""
    gradient_accumulation: int = 1
    """Number of parts that the batch of each process is split into, to save memory; the result is the same."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    warmup_steps: int = 30
    """Number of steps of the linear learning rate warmup."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate schedule after the warmup; cosine decays to 2 % of the peak."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit stores its moments in 8 bits; it needs the extra `8bit` (bitsandbytes) and excludes shard_model."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    max_grad_norm: float = 1.0
    """Max gradient norm for clipping."""
    rank: int = 64
    """Rank of the LoRA matrices."""
    alpha: float = 64.0
    """Scaling of LoRA: the weight update is multiplied by alpha / rank."""
    targets: tuple[str, ...] = TARGET_MODULES
    """Name suffixes of the layers with LoRA; ffn.net.0.proj and ffn.net.2 are the feed-forward layers."""
    xyz_weight: float = 2.0
    """Weight of the XYZ loss; the RGB loss has weight 1. The reference implementation uses 1."""
    timesteps: Literal["uniform", "logit-normal"] = "uniform"
    """Distribution of the noise levels before the shift: uniform, as in the reference implementation, or concentrated
    around 0.5."""
    sigma_shift: float = 3.0
    """Shift of the noise levels toward noise; 1 is no shift, as in the reference implementation."""
    sigma_one_prob: float = 0.3
    """Probability of pure noise (noise level 1), where sampling starts. It matters most for sampling in few steps."""
    ema: float = 0.98
    """Decay of the exponential moving average of the adapter, which is saved; 0 saves the last weights."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Precision of the base, and of forward and backward. Adapter and optimizer are always in float32, and on a CPU
    everything except matrix products. auto is bf16 if the device supports it in hardware (GPU, AMX, AVX512-BF16); an
    interrupted run keeps its precision."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    shard_model: bool = False
    """Shard the weights of the base over the processes (FSDP2)."""
    checkpoint_every: int = 100
    """Number of steps between checkpoints."""
    num_samples: int = 2
    """Number of held-out worlds that samples are generated for at the end; 0 for none."""
    track: bool = True
    """Log the run to MLflow."""
    held_out_clips: Path | None = None
    """Held-out clips: a folder of annotated shards, a manifest, or a table of curated clips with splits. Training
    refuses latents that contain one of them, or another clip of its source video."""
    seed: int = 0
    """Seed of the LoRA matrices, the order of the clips and the noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "batch_size", "gradient_accumulation", "rank", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "max_grad_norm", "alpha", "sigma_shift"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not self.xyz_weight >= 0:
            raise ValueError(f"xyz_weight: expected a number of at least 0, got {self.xyz_weight}")
        for name, hint in get_type_hints(LoraTraining).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise ValueError(f"{name}: expected one of {get_args(hint)}, got {getattr(self, name)!r}")
        if self.shard_model and self.optimizer != "adamw":
            raise ValueError(f"optimizer: expected adamw with shard_model, got {self.optimizer}")
        if not 0 <= self.sigma_one_prob <= 1:
            raise ValueError(f"sigma_one_prob: expected a number in [0, 1], got {self.sigma_one_prob}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: expected a number in [0, 1), got {self.ema}")


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """Summary of a finished run, `training/summary.json` in the adapter folder."""

    adapter_dir: str
    adapter_digest: str
    adapter_norm: float
    steps: int
    num_clips: int
    loss: float
    """Mean loss of the last tenth of the steps."""
    seconds: float
    """Time of this process; a resumed run does not count the time before the interruption."""
    mlflow_run_id: str | None
