"""What a LoRA fine-tuning run is told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fourdnex.model.names import TARGET_MODULES
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
    batch_size: int = 8
    """Clips a step, over all processes."""
    gradient_accumulation: int = 1
    learning_rate: float = 2e-3
    warmup_steps: int = 30
    schedule: str = "cosine"
    """cosine or constant."""
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    rank: int = 64
    alpha: float = 64.0
    targets: tuple[str, ...] = TARGET_MODULES
    """Endings of the names of the layers that get LoRA matrices; ffn.net.0.proj and ffn.net.2 are the feed-forward."""
    xyz_weight: float = 2.0
    """Weight of the XYZ half of the loss; the RGB half has 1. The public code has 1 for both."""
    sigma_shift: float = 3.0
    """Noise levels are drawn uniformly and shifted towards noise; 1 leaves them uniform, as in the public code."""
    ema: float = 0.98
    """Decay of the averaged adapter that is saved; 0 saves the last one."""
    mixed_precision: str = "no"
    """no, bf16 or fp16."""
    gradient_checkpointing: bool = False
    checkpoint_every: int = 100
    num_samples: int = 2
    """Held-out worlds generated at the end, as pictures for people; 0 for none."""
    track: bool = True
    """Log the run to MLflow."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "batch_size", "gradient_accumulation", "rank", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate: expected a positive number, got {self.learning_rate}")
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule: expected 'cosine' or 'constant', got {self.schedule!r}")
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
