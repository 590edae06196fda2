"""A training step against the public way, and where its time goes: `python -m benchmarks.training_step`

The public way is a plain loop: diffusers' attention with rotary positions in float64 as the public code has them, LoRA
by peft, and the condition (first frame and sloped plane through the VAE, caption and image through their encoders)
computed in every step. Ours reads all that from latent shards. Both learn the same batches with the same loss; their
steps alternate, and the medians are compared. "Without encoding" is the plain loop on latents that are there already.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch.nn import functional as F

from benchmarks.reporting import print_table
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import render_world, training_seeds
from fourdnex.latents.codec import LatentCodec
from fourdnex.latents.encoding import encode_clip
from fourdnex.latents.shards import (
    PLANE,
    LatentClips,
    LatentEncoding,
    estimate_statistics,
    write_latent_shard,
)
from fourdnex.model.adapter import add_lora
from fourdnex.model.conditioning import plane_condition, styled_prompt
from fourdnex.model.pipeline import SixDPipeline, load_encoders
from fourdnex.model.precision import resolve_precision
from fourdnex.model.presets import Preset, base_digest
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.batches import draw_batch
from fourdnex.training.loop import TrainingLoop
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.loss import flow_matching_loss
from fourdnex.training.trainer import build_loop

Clock = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=15, help="steps of each loop (default 15)")
    parser.add_argument("--batch-size", type=int, default=8, help="clips a step (default 8)")
    parser.add_argument("--model", default="tiny", help="preset or folder of the base (default tiny)")
    parser.add_argument(
        "--processor-time", action="store_true", help="seconds of the processor, for a machine that others use too"
    )
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), help="of our loop (default: the faster one here); theirs is fp32"
    )
    options = parser.parse_args()
    options.precision = options.precision or resolve_precision("auto", "cpu")
    clock: Clock = time.process_time if options.processor_time else time.perf_counter
    pipeline, preset = load_encoders(options.model, device="cpu", precision="fp32")
    clips = worlds(options.batch_size, preset)
    with tempfile.TemporaryDirectory() as folder:
        latents_of(Path(folder), clips, pipeline, preset)
        config = LoraTraining(
            latents=Path(folder),
            output=Path(folder) / "adapter",
            model=options.model,
            batch_size=options.batch_size,
            mixed_precision="bf16" if options.precision == "bf16" else "no",
        )
        latents = LatentClips(config.latents)
        ours = _Ours(build_loop(config, Accelerator(cpu=True), latents, ""), clock)
        public = _PublicWay(config, latents, {clip.name: clip for clip in clips}, pipeline, preset)
        seconds: dict[str, list[float]] = {"public": [], "without encoding": [], "ours": []}
        for step in range(options.steps + 1):
            for name, update in (
                ("public", lambda step: public.update(step, encode=True)),
                ("without encoding", lambda step: public.update(step, encode=False)),
                ("ours", ours.update),
            ):
                started = clock()
                update(step)
                if step:  # the first warms up
                    seconds[name].append(clock() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    share = statistics.median(ours.shares[1:])
    rows = [
        ("public way", medians["public"], 1 / medians["public"], 1.0, None),
        *(
            (name, medians[key], 1 / medians[key], medians["public"] / medians[key], part)
            for name, key, part in (
                ("public way without encoding", "without encoding", None),
                (f"fourdnex, {options.precision}", "ours", f"{share:.1%}"),
            )
        ),
    ]
    print_table(
        f"A training step, {options.batch_size} clips",
        ("loop", "s a step", "steps a second", "times the public way", "forward and backward"),
        rows,
        notes=(f"{torch.get_num_threads()} threads; {'processor time' if options.processor_time else 'wall time'}",),
        packages=("torch", "diffusers", "peft"),
    )


class _Ours:
    """The trainer's own loop, with the share of each step that is forward and backward."""

    def __init__(self, loop: TrainingLoop, clock: Clock):
        self.shares: list[float] = []
        self.loop, self._clock, self._begun, self._inside = loop, clock, 0.0, 0.0
        self._backward = loop.accelerator.backward
        loop.model.register_forward_pre_hook(self._begin)
        loop.accelerator.backward = self._end

    def update(self, step: int) -> None:
        started, self._inside = self._clock(), 0.0
        self.loop.update(step)
        self.shares.append(self._inside / (self._clock() - started))

    def _begin(self, *_: Any) -> None:
        self._begun = self._clock()

    def _end(self, loss: torch.Tensor) -> None:
        self._backward(loss)
        self._inside += self._clock() - self._begun


class _PublicWay:
    """A plain loop, as the public trainer has it."""

    def __init__(
        self,
        config: LoraTraining,
        latents: LatentClips,
        clips: dict[str, Clip],
        pipeline: SixDPipeline,
        preset: Preset,
    ):
        base = WanTransformer3DModel.from_pretrained(preset.location, subfolder="transformer")
        self.config, self.latents, self.clips, self.pipeline, self.preset = config, latents, clips, pipeline, preset
        self.codec = LatentCodec(pipeline.vae, pipeline.statistics)
        self.model = SixDTransformer.from_base(base).train()
        add_lora(self.model, rank=config.rank, alpha=config.alpha)
        self.model.set_attn_processor(_Float64Rotary())
        self.parameters = [value for value in self.model.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, betas=(0.9, 0.95))

    def update(self, step: int, *, encode: bool) -> float:
        chosen, sigma, noise = draw_batch(self.config, self.latents, step)
        items = [self.latents[index] for index in chosen]
        batch = {key: torch.stack([item[key] for item in items]) for key in ("latents", "condition", "text", "image")}
        if encode:
            batch |= self._encode([self.clips[item["name"]] for item in items])
        loss, _ = flow_matching_loss(
            self.model,
            batch,
            sigma=sigma,
            noise=noise,
            xyz_weight=self.config.xyz_weight,
            xyz_mask=self.config.xyz_mask,
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    @torch.no_grad()
    def _encode(self, clips: list[Clip]) -> dict[str, torch.Tensor]:
        frames = np.stack([clip.rgb[0] for clip in clips])
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        rgb = self.codec.encode_condition(pixels, self.preset.num_frames)
        size = {"height": self.preset.height, "width": self.preset.width, "num_frames": self.preset.num_frames}
        plane = plane_condition(self.codec, **size)
        prompts = [styled_prompt(clip.caption) for clip in clips]
        text, _ = self.pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=512)
        image = self.pipeline.encode_image(list(frames), "cpu")
        return {"condition": torch.stack([rgb, plane.expand_as(rgb)], dim=1), "text": text, "image": image}


class _Float64Rotary(WanAttnProcessor):
    """Wan's attention as the public code has it: queries and keys are turned as complex numbers of 128 bits."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        if rotary_emb is None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        cos, sin = (table.double() for table in rotary_emb)
        turn = torch.complex(cos[..., 0::2], sin[..., 1::2])

        def turned(x: torch.Tensor) -> torch.Tensor:
            pairs = torch.view_as_complex(x.double().unflatten(2, (attn.heads, -1, 2)))
            return torch.view_as_real(pairs * turn).flatten(3).type_as(x).transpose(1, 2)

        query, key = turned(attn.norm_q(attn.to_q(hidden_states))), turned(attn.norm_k(attn.to_k(hidden_states)))
        value = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        result = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](result))


def worlds(count: int, preset: Preset) -> list[Clip]:
    """Training worlds of the preset's size."""
    size = {"num_frames": preset.num_frames, "height": preset.height, "width": preset.width}
    return [render_world(seed, **size) for seed in training_seeds(70_000, count)]


def latents_of(folder: Path, clips: list[Clip], pipeline: SixDPipeline, preset: Preset) -> None:
    """A latents folder of `clips` with its statistics."""
    codec = LatentCodec(pipeline.vae, pipeline.statistics)
    size = {"height": preset.height, "width": preset.width, "num_frames": preset.num_frames}
    with torch.inference_mode():
        tensors = {PLANE: plane_condition(codec, **size)[0].clone()}
    rows, encoding = [], LatentEncoding(base_digest=base_digest(preset.location))
    for clip in clips:
        encoded, row = encode_clip(clip, pipeline, preset, codec, encoding)
        tensors |= {f"{clip.name}/{key}": value for key, value in encoded.items()}
        rows.append(row)
    write_latent_shard(folder, "worlds", tensors, pd.DataFrame(rows), "benchmark", encoding)
    estimate_statistics(folder)


if __name__ == "__main__":
    main()
