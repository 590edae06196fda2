"""What a LoRA fine-tuning run is told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from fourdnex.model.option_types import TARGET_MODULES
from fourdnex.model.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LoraTraining(Recipe):
    """Settings of a LoRA fine-tuning run: a recipe, on what, how long and how fast."""

    latents: Path
    """Folder of latent shards with statistics.json."""
    output: Path
    """Folder the adapter is written to; checkpoints lie beside it while training runs."""
    model: str = "tiny"
    """Preset or folder of the base."""
    steps: int = 480
    """Updates of the adapter."""
    batch_size: int = 8
    """Clips a step, over all processes."""
    gradient_accumulation: int = 1
    """Parts that a process takes its share of the batch in, one after the other: less memory, equal numbers."""
    learning_rate: float = 2e-3
    """Highest learning rate."""
    warmup_steps: int = 30
    """Steps in which the learning rate rises to it."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What the learning rate does after its warm-up; cosine goes down to 2 %."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit keeps its moments in 8 bits; it needs the extra `8bit` (bitsandbytes) and a model in one piece."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    max_grad_norm: float = 1.0
    """Longer gradients are shortened to this length."""
    rank: int = 64
    """Of the LoRA matrices."""
    alpha: float = 64.0
    """The LoRA matrices are scaled by alpha / rank."""
    targets: tuple[str, ...] = TARGET_MODULES
    """Endings of the names of the layers that get LoRA matrices; ffn.net.0.proj and ffn.net.2 are the feed-forward."""
    xyz_weight: float = 2.0
    """Weight of the XYZ half of the loss; the RGB half has 1. The public code has 1 for both."""
    timesteps: Literal["uniform", "logit-normal"] = "uniform"
    """How noise levels are drawn before the shift: uniformly, as in the public code, or most of them in the middle."""
    sigma_shift: float = 3.0
    """Noise levels are shifted towards noise; 1 leaves them as they are drawn, as in the public code."""
    sigma_one_prob: float = 0.3
    """Share of clips at the noise level 1, from which sampling starts; few steps depend on it most."""
    ema: float = 0.98
    """Decay of the averaged adapter that is saved; 0 saves the last one."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Precision of the base and of forward and backward; the adapter and its optimizer stay in float32, and on a CPU
    all but the matrix products too. auto is bf16 where the device computes faster in it (a GPU, AMX, AVX512-BF16), or
    what an interrupted run of the same settings began with."""
    gradient_checkpointing: bool = False
    """Compute activations again in backward instead of keeping them."""
    shard_model: bool = False
    """Spread the base's weights over the processes (FSDP2) instead of keeping a copy in each."""
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    num_samples: int = 2
    """Held-out worlds generated at the end, as images for people; 0 for none."""
    track: bool = True
    """Log the run to MLflow."""
    seed: int = 0
    """Of the fresh matrices, the order of clips and the noise."""

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
    """What a finished run did; kept as `training/summary.json` in the adapter folder."""

    adapter_dir: str
    adapter_digest: str
    adapter_norm: float
    steps: int
    num_clips: int
    loss: float
    """Mean over the last tenth of the steps."""
    seconds: float
    """Time in this process, after a resume without what went before."""
    mlflow_run_id: str | None
