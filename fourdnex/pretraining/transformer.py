"""Pretraining of the tiny image-to-video transformer, with its image encoder, on procedural worlds.

The model learns to continue a first frame into a clip of one modality, in three tasks: RGB clips from their first frame
and caption; coordinate clips (normalized XYZ as colors) from their first frame; and coordinate clips from the first RGB
frame. The prompts of the last two end in a word of their own. These tasks stand for what a large video model knows
about geometry. Generating RGB and XYZ together, from the sloped plane, is left to LoRA fine-tuning.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import UMT5EncoderModel

from fourdnex.io.files import atomic_dir
from fourdnex.model.bfloat_linear import use_bfloat16
from fourdnex.model.conditioning import guided_mask
from fourdnex.model.noise_schedule import draw_sigmas, set_pure_noise, shift_sigmas
from fourdnex.model.option_types import Precision
from fourdnex.model.precision import resolve_precision
from fourdnex.model.text_padding import compact_text_padding
from fourdnex.pretraining.base_pipeline import make_pipeline, measure_base
from fourdnex.pretraining.conditioning_encoders import ConditioningEncoders
from fourdnex.pretraining.encoded_worlds import load_worlds, xyz_statistics
from fourdnex.pretraining.loop import ExponentialMovingAverage, JsonLines, Metrics, PretrainingLoop, last_step
from fourdnex.pretraining.muon import Muon, split_parameters
from fourdnex.pretraining.tokenizer import build_tokenizer, with_positions_suffix

TRANSFORMER_CONFIG = {
    "num_attention_heads": 4,
    "attention_head_dim": 48,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 64,
    "freq_dim": 128,
    "ffn_dim": 768,
    "num_layers": 6,
    "image_dim": 64,
    "added_kv_proj_dim": 192,
    "rope_max_seq_len": 256,
}
TASKS = ("rgb", "xyz", "rgb_to_xyz")
ADAMW_PARTS = ("embed", "proj_out", "scale_shift")
"""Parts of the names of weights that AdamW trains, beside vectors and thin layers; Muon trains all others."""


@dataclass(frozen=True, kw_only=True)
class TransformerPretraining:
    """Settings of the transformer's pretraining."""

    minutes: float = 90.0
    """Wall-clock time of training."""
    batch_size: int = 24
    """Clips per step."""
    learning_rate: float = 0.02
    """Peak learning rate of Muon on the hidden layers; AdamW, for everything else, has a tenth of it."""
    weight_decay: float = 0.3
    """Weight decay of Muon. Without it the residual stream grows until the contribution of the text is lost in it."""
    warmup_steps: int = 50
    """Steps of the linear learning rate warmup."""
    caption_dropout: float = 0.3
    """Probability of an empty caption, since images come without captions."""
    task_shares: tuple[float, float, float] = (0.45, 0.1, 0.45)
    """Shares of the tasks: RGB clips, coordinate clips from their own first frame, coordinate clips from RGB."""
    sigma_shift: float = 3.0
    """Shift of the noise levels toward noise, since the base is sampled in few steps; 1 leaves them uniform."""
    sigma_one_prob: float = 0.4
    """Probability of pure noise (noise level 1), where the caption is the only source of the motion."""
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is saved."""
    precision: Precision = "fp32"
    """bf16 multiplies matrices in bfloat16 (`fourdnex.model.bfloat_linear`); auto does so if the CPU supports it."""
    seed: int = 0
    """Seed of weights, batches and noise."""


def pretrain_transformer(
    config: TransformerPretraining,
    vae: AutoencoderKLWan,
    text: UMT5EncoderModel,
    worlds: Path,
    folder: Path,
    *,
    start: Path | None = None,
) -> None:
    """Train on encoded worlds; writes the whole base to `folder` in half precision and in the Diffusers layout.

    Encoded worlds that are added during training are used too. The base is measured and written every ten minutes.

    Args:
        config: the settings.
        vae: VAE of the base.
        text: text encoder of the base; frozen.
        worlds: folder of encoded worlds.
        folder: folder of the base; its log is `training/transformer.jsonl`.
        start: folder of a base whose transformer and image encoder are trained further, and whose log is continued;
            None starts from random weights.

    Raises:
        ValueError: the loss is not finite.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    encoders = ConditioningEncoders(build_tokenizer(), text)
    transformer = WanTransformer3DModel(**TRANSFORMER_CONFIG)
    if start is None:
        init_cross_attention_bias(transformer)
    else:
        for part, name in ((transformer, "transformer"), (encoders.image, "image_encoder")):
            part.load_state_dict(type(part).from_pretrained(start / name, dtype=torch.float32).state_dict())
    compact_text_padding(transformer)
    if resolve_precision(config.precision, "cpu") == "bf16":
        use_bfloat16(transformer)
    model = nn.ModuleDict({"transformer": transformer, "encoders": encoders})
    ema = ExponentialMovingAverage(model, decay=config.ema_decay, warmup=10)
    batches = _Batches(worlds, encoders, config, rng)
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    hidden, rest = split_parameters(trained, keep=ADAMW_PARTS)
    path = folder / "training" / "transformer.jsonl"
    log = JsonLines.continued(path, start / "training" / path.name if start is not None else None)
    first_step = last_step(log.lines())
    log.write({"config": asdict(config), "xyz_statistics": asdict(batches.statistics)})

    def objective(step: int) -> tuple[torch.Tensor, Metrics]:
        tasks, clean, condition, words, image = batches.next()
        errors = flow_matching_errors(transformer, clean, condition, words, image, config)
        return errors.mean(), task_losses(tasks, errors)

    def reload_worlds(step: int) -> dict[str, float]:
        batches.reload()
        return {}

    def save() -> dict[str, float]:
        with ema.applied_to(model):
            model.eval()
            measured = _save(folder, transformer, encoders, vae)
            model.train()
            return measured

    loop = PretrainingLoop(
        model=model,
        optimizers=[
            Muon(hidden, lr=config.learning_rate, weight_decay=config.weight_decay),
            torch.optim.AdamW(rest, lr=config.learning_rate / 10, betas=(0.9, 0.95), weight_decay=0.01),
        ],
        objective=objective,
        warmup_steps=config.warmup_steps,
        minutes=config.minutes,
        ema=ema,
        log=log.write,
        extend_line=reload_worlds,
        save=save,
        save_minutes=10,
        first_logged_step=first_step,
    )
    loop.run()
    log.write({"step": loop.logged_step} | save())


def init_cross_attention_bias(transformer: WanTransformer3DModel, *, gain: float = 1.5) -> None:
    """Initialize the cross-attention of new weights to ignore the padding of prompts, in place.

    Wan pads every prompt to 512 tokens of zeros, which initially hold nine tenths of the attention, and heads as narrow
    as the tiny base's hardly learn to look past them. Here the biases of queries and keys have opposite signs: a key
    that is nothing but its bias, as that of padding, repels every query; the key of a word does not depend on the bias.
    """
    with torch.no_grad():
        embedder = transformer.condition_embedder.text_embedder
        embedder.linear_1.bias.zero_()
        embedder.linear_2.bias.zero_()
        embedder.linear_2.weight.mul_(3.0)
        for block in transformer.blocks:
            attention = block.attn2
            direction = torch.where(torch.rand_like(attention.to_q.bias) < 0.5, -1.0, 1.0)
            attention.to_q.bias.copy_(0.6 * direction)
            attention.to_k.bias.copy_(-0.1 * direction)
            attention.to_v.bias.zero_()
            attention.norm_q.weight.fill_(gain)
            attention.norm_k.weight.fill_(gain)


class _Batches:
    """Random batches of the three tasks; the worlds of a batch have one size."""

    def __init__(
        self, folder: Path, encoders: ConditioningEncoders, config: TransformerPretraining, rng: np.random.Generator
    ):
        self.folder, self.encoders, self.config, self.rng = folder, encoders, config, rng
        self.groups = load_worlds(folder)
        self.statistics = xyz_statistics(self.groups)
        self._prepare()

    def reload(self) -> None:
        """Load parts that were added since; the statistics do not change."""
        if len(list(self.folder.glob("[!.]*.safetensors"))) != sum(group.num_parts for group in self.groups):
            self.groups = load_worlds(self.folder)
            self._prepare()

    def _prepare(self) -> None:
        """Normalize the XYZ latents and preprocess the first frames of all worlds."""
        mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (self.statistics.mean, self.statistics.std))
        self.counts = np.array([len(group.seeds) for group in self.groups])
        self.xyz = [(group.xyz - mean) / std for group in self.groups]
        self.rgb_pixels, self.xyz_pixels = (
            [self.encoders.processor(images=list(images.numpy()), return_tensors="pt").pixel_values for images in parts]
            for parts in ([g.rgb_image for g in self.groups], [g.xyz_image for g in self.groups])
        )

    def next(self) -> tuple[list[str], torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Task names, clean latents and condition latents [B, 16, F, h, w], text and image embeddings."""
        tasks, clean, condition, prompts, pixels = [], [], [], [], []
        g = int(self.rng.choice(len(self.groups), p=self.counts / self.counts.sum()))
        worlds, xyz = self.groups[g], self.xyz[g]
        for _ in range(self.config.batch_size):
            task = str(self.rng.choice(TASKS, p=self.config.task_shares))
            i = int(self.rng.integers(len(xyz)))
            caption = "" if self.rng.random() < self.config.caption_dropout else worlds.captions[i]
            tasks.append(task)
            clean.append(worlds.rgb[i] if task == "rgb" else xyz[i])
            condition.append(worlds.xyz_condition[i] if task == "xyz" else worlds.rgb_condition[i])
            pixels.append(self.xyz_pixels[g][i] if task == "xyz" else self.rgb_pixels[g][i])
            prompts.append(caption if task == "rgb" else with_positions_suffix(caption))
        text, image = self.encoders(prompts, torch.stack(pixels))
        return tasks, torch.stack(clean), torch.stack(condition), text, image


def flow_matching_errors(
    transformer: nn.Module,
    clean: torch.Tensor,
    condition: torch.Tensor,
    text: torch.Tensor,
    image: torch.Tensor,
    config: TransformerPretraining,
) -> torch.Tensor:
    """Flow-matching error of each clip [B], at random noise levels.

    Args:
        transformer: predicts the velocity.
        clean: latents of the clips [B, 16, F, h, w].
        condition: condition latents [B, 16, F, h, w].
        text, image: embeddings.
        config: distribution of the noise levels.
    """
    noise = torch.randn_like(clean)
    sigma = shift_sigmas(draw_sigmas(len(clean), device=clean.device), config.sigma_shift)
    sigma = set_pure_noise(sigma, config.sigma_one_prob)
    s = sigma.view(-1, 1, 1, 1, 1)
    hidden = torch.cat([(1 - s) * clean + s * noise, guided_mask(clean, 1.0), condition], dim=1)
    velocity = transformer(
        hidden, timestep=sigma * 1000, encoder_hidden_states=text, encoder_hidden_states_image=image
    ).sample
    return (velocity - (noise - clean)).square().mean(dim=(1, 2, 3, 4))


def task_losses(tasks: Sequence[str], errors: torch.Tensor) -> dict[str, torch.Tensor]:
    """The errors of a batch [B] by task: `rgb_loss`, `xyz_loss`, `rgb_to_xyz_loss`, as far as they occur."""
    rows = {task: [i for i, each in enumerate(tasks) if each == task] for task in TASKS}
    return {f"{task}_loss": errors.detach()[indices] for task, indices in rows.items() if indices}


def _save(
    folder: Path, transformer: WanTransformer3DModel, encoders: ConditioningEncoders, vae: AutoencoderKLWan
) -> dict[str, float]:
    """Measure the base on held-out worlds, and write it to `folder` in half precision."""
    pipeline = make_pipeline(transformer, encoders, vae)
    measured = measure_base(pipeline)
    pipeline.register_modules(tokenizer=build_tokenizer())  # measuring left its padding in the other tokenizer
    with atomic_dir(folder) as temporary:
        shutil.copytree(folder / "training", temporary / "training")
        pipeline.to(torch.float16).save_pretrained(temporary)
    pipeline.to(torch.float32)
    return measured
