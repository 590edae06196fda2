"""Training step against the reference implementation's loop: `python -m benchmarks.training_step`

The reference loop uses diffusers' attention with rotary positions in float64, LoRA by peft, and encodes the condition
(first frame and sloped plane by the VAE, caption and image by their encoders) in every step. `fourdnex train` reads all
of these from latent shards. Both train on the same batches with the same loss; their steps alternate, and medians are
compared. "Without encoding" is the reference loop on precomputed latents.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch.nn import functional as F

from benchmarks.fixtures import size_of, training_worlds, write_latents
from benchmarks.measuring import time_in_turns
from benchmarks.reporting import add_cpu_time_option, add_model_option, argument_parser, print_table
from fourdnex.clip import Clip
from fourdnex.io.pixels import normalize_pixels
from fourdnex.latents.codec import LatentCodec
from fourdnex.latents.dataset import LatentClips
from fourdnex.latents.encoders import Encoders
from fourdnex.model.adapter import add_lora
from fourdnex.model.conditioning import plane_condition, styled_prompt
from fourdnex.model.memory_settings import MemorySettings
from fourdnex.model.pipeline import SixDPipeline, load_pipeline
from fourdnex.model.precision import resolve_precision
from fourdnex.model.presets import Preset
from fourdnex.model.transformer import SixDTransformer
from fourdnex.training.batches import draw_batch
from fourdnex.training.loop import TrainingLoop
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.loss import flow_matching_loss
from fourdnex.training.setup import build_loop

Clock = Callable[[], float]


def main() -> None:
    """Time all loops and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each loop (default: 15)")
    parser.add_argument("--batch-size", type=int, default=8, help="clips per step (default: 8)")
    add_model_option(parser)
    add_cpu_time_option(parser)
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="of fourdnex (default: the faster one on this processor); the reference loop is in fp32",
    )
    options = parser.parse_args()
    options.precision = options.precision or resolve_precision("auto", "cpu")
    clock: Clock = time.process_time if options.cpu_time else time.perf_counter
    pipeline, preset = load_pipeline(options.model, device="cpu", memory=MemorySettings(precision="fp32"))
    clips = training_worlds(options.batch_size, preset)
    with tempfile.TemporaryDirectory() as folder:
        encoders = Encoders.load(options.model, device="cpu", precision="fp32")
        write_latents(Path(folder), clips, encoders, preset)
        config = LoraTraining(
            latents=Path(folder),
            output=Path(folder) / "adapter",
            model=options.model,
            batch_size=options.batch_size,
            mixed_precision="bf16" if options.precision == "bf16" else "no",
        )
        latents = LatentClips(config.latents)
        trainer = _TrainerLoop(build_loop(config, Accelerator(cpu=True), latents, ""), clock)
        reference = _ReferenceLoop(config, latents, {clip.name: clip for clip in clips}, pipeline, preset)
        loops: dict[str, Callable[[int], object]] = {
            "reference implementation": lambda step: reference.update(step, encode=True),
            "reference implementation, without encoding": lambda step: reference.update(step, encode=False),
            f"fourdnex, {options.precision}": trainer.update,
        }
        timings = time_in_turns(loops, repeats=options.steps)
    seconds = {name: timing.seconds(cpu=options.cpu_time) for name, timing in timings.items()}
    slowest = seconds["reference implementation"]
    share = statistics.median(trainer.shares[1:])
    rows = [
        (name, value, 1 / value, slowest / value, f"{share:.1%}" if name.startswith("fourdnex") else None)
        for name, value in seconds.items()
    ]
    print_table(
        f"Training step, {options.batch_size} clips",
        ("loop", "seconds per step", "steps per second", "speedup", "share of forward and backward"),
        rows,
        notes=(f"{torch.get_num_threads()} threads; {'CPU time' if options.cpu_time else 'wall time'}",),
        packages=("torch", "diffusers", "peft"),
    )


class _TrainerLoop:
    """The loop of `fourdnex train`, which records the share of forward and backward in each step."""

    def __init__(self, loop: TrainingLoop, clock: Clock):
        self.shares: list[float] = []
        self.loop, self._clock, self._forward_start, self._elapsed = loop, clock, 0.0, 0.0
        self._backward = loop.accelerator.backward
        loop.model.register_forward_pre_hook(self._start_timer)
        loop.accelerator.backward = self._backward_and_stop_timer

    def update(self, step: int) -> None:
        """Run one step."""
        started, self._elapsed = self._clock(), 0.0
        self.loop.update(step)
        self.shares.append(self._elapsed / (self._clock() - started))

    def _start_timer(self, *_: Any) -> None:
        """Called before the forward pass."""
        self._forward_start = self._clock()

    def _backward_and_stop_timer(self, loss: torch.Tensor) -> None:
        """In place of the accelerator's backward."""
        self._backward(loss)
        self._elapsed += self._clock() - self._forward_start


class _ReferenceLoop:
    """A training loop as in the reference implementation."""

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
        """Run one step, encoding the condition first if `encode`; the loss."""
        indices, sigma, noise = draw_batch(self.config, self.latents, step)
        items = [self.latents[index] for index in indices]
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
        """Condition, text and image embeddings of the clips."""
        frames = np.stack([clip.rgb[0] for clip in clips])
        pixels = normalize_pixels(torch.from_numpy(frames).permute(0, 3, 1, 2))
        rgb = self.codec.encode_condition(pixels, self.preset.num_frames)
        plane = plane_condition(self.codec, **size_of(self.preset))
        prompts = [styled_prompt(clip.caption) for clip in clips]
        text, _ = self.pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=512)
        image = self.pipeline.encode_image(list(frames), "cpu")
        return {"condition": torch.stack([rgb, plane.expand_as(rgb)], dim=1), "text": text, "image": image}


class _Float64Rotary(WanAttnProcessor):
    """Wan's attention as in the reference implementation: rotary positions in complex128."""

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
        rotation = torch.complex(cos[..., 0::2], sin[..., 1::2])

        def rotate(x: torch.Tensor) -> torch.Tensor:
            """Apply the rotary positions to queries or keys."""
            pairs = torch.view_as_complex(x.double().unflatten(2, (attn.heads, -1, 2)))
            return torch.view_as_real(pairs * rotation).flatten(3).type_as(x).transpose(1, 2)

        query, key = rotate(attn.norm_q(attn.to_q(hidden_states))), rotate(attn.norm_k(attn.to_k(hidden_states)))
        value = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        result = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](result))


if __name__ == "__main__":
    main()
