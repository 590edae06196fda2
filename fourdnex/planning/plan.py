"""Does a base fit into these GPUs, and with what settings? Memory of training and generation, part by part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from fourdnex.latents.codec import check_video_size
from fourdnex.model.base_components import component_configs, meta_component
from fourdnex.model.memory_settings import OFFLOAD, MemorySettings
from fourdnex.model.option_types import FusionName
from fourdnex.model.presets import Preset, get_preset
from fourdnex.planning import estimate
from fourdnex.planning.passes import Clip, Precision

GIB = 2**30
_PIXELS: Precision = "no"  # VAE and image encoder are in float32, whatever the rest is in


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What is to fit into what."""

    model: str = "wan2.1-i2v-14b-480p"
    """Preset or folder of the base; neither weights nor the hub are needed."""
    gpus: str = "1x24GB"
    """Number and memory of the GPUs."""
    num_frames: int | None = None
    """Frames of a clip, 4k+1, to ask what if: the commands take the base's own, as here if not given."""
    height: int | None = None
    """Pixels, to ask what if: images and clips of other ratios have about the base's own area."""
    width: int | None = None
    """Pixels of one modality, to ask what if: as for the height."""
    fusion: FusionName = "width"
    """How RGB and XYZ are joined."""
    batch_size: int = 1
    """Clips, or images, that a GPU has in work at once."""
    rank: int = 64
    """Of the adapter."""
    precision: Precision = "bf16"
    """Of all but VAE and image encoder, which are in float32: bf16, or no for float32."""
    reserve: float = 0.1
    """Share of a GPU left to its driver, to workspaces inside kernels and to gaps between allocations."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.reserve < 1:
            raise ValueError(f"reserve: expected a number in [0, 1), got {self.reserve}")
        parse_gpus(self.gpus)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bytes of one thing in a GPU's memory."""

    name: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to run, and what it takes of each GPU."""

    switches: tuple[str, ...]
    """Options of the command that switch it on; none for the plain way."""
    resident: tuple[Part, ...]
    """What lies there all the time."""
    phases: tuple[Part, ...]
    """What comes and goes; one at a time."""
    host: int = 0
    """Bytes of host memory: in generation for weights that wait, in training while each process reads the base."""

    @property
    def peak(self) -> int:
        return sum(part.size for part in self.resident) + max(phase.size for phase in self.phases)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The ways to run, the simplest first."""

    settings: PlanSettings
    preset: Preset
    clip: Clip
    num_tokens: int
    """Tokens of a clip's longest sequence."""
    num_gpus: int
    available: int
    """Bytes of each GPU that may be used."""
    training: tuple[Option, ...]
    generation: tuple[Option, ...]

    def first_fit(self, options: tuple[Option, ...]) -> Option | None:
        """The simplest way that fits."""
        return next((option for option in options if option.peak <= self.available), None)


def make_plan(settings: PlanSettings) -> Plan:
    """Find the memory of all ways to train and to generate.

    Raises:
        ValueError: for a size that the base cannot take; the message names the nearest one.
    """
    preset = get_preset(settings.model)
    clip = Clip(
        num_frames=settings.num_frames or preset.num_frames,
        height=settings.height or preset.height,
        width=settings.width or preset.width,
        batch_size=settings.batch_size,
        fusion=settings.fusion,
    )
    vae = meta_component("vae", component_configs(preset)["vae"], dtype=torch.float32)
    check_video_size((1, 3, clip.num_frames, clip.height, clip.width), vae)
    num_gpus, memory = parse_gpus(settings.gpus)
    return Plan(
        settings=settings,
        preset=preset,
        clip=clip,
        num_tokens=_tokens(preset, clip),
        num_gpus=num_gpus,
        available=round(memory * (1 - settings.reserve)),
        training=tuple(_training(preset, clip, settings, num_gpus)),
        generation=tuple(_generation(preset, clip, settings)),
    )


def parse_gpus(text: str) -> tuple[int, int]:
    """Number of GPUs and bytes of each from "8x80GB"; makers' GB are 2^30 bytes here, as their cards about hold.

    Raises:
        ValueError: for anything else.
    """
    found = re.fullmatch(r"(?:(\d+)\s*x\s*)?(\d+(?:\.\d+)?)\s*G(?:i?B)?", text.strip(), re.IGNORECASE)
    count, size = (int(found[1] or 1), float(found[2])) if found else (0, 0.0)
    if count < 1 or size <= 0:
        raise ValueError(f"gpus: expected number and memory like 8x80GB, got {text!r}")
    return count, round(size * GIB)


def _training(preset: Preset, clip: Clip, settings: PlanSettings, num_gpus: int) -> Iterator[Option]:
    """Plain, then with activations computed again, then with all weights spread over the GPUs too (FSDP2)."""
    base = estimate.transformer_weights(preset, precision=settings.precision, fusion=clip.fusion)
    adapter = estimate.adapter_bytes(preset, rank=settings.rank, fusion=clip.fusion)
    for checkpointing, shard in ((False, False), (True, False), (True, True)):
        if shard and num_gpus == 1:
            continue
        step = estimate.training_bytes(
            preset, clip, rank=settings.rank, checkpointing=checkpointing, precision=settings.precision
        )
        share, gathered = (num_gpus, 2 * (base.block + adapter // base.num_blocks) + base.outside) if shard else (1, 0)
        of = f", 1/{num_gpus}" if shard else ""
        resident = [
            Part(name=f"base{of}", size=base.total // share),
            Part(name=f"adapter{of}", size=adapter // share),
            Part(name=f"its gradients{of}", size=adapter // share),
            Part(name=f"its optimizer{of}", size=2 * adapter // share),
            Part(name=f"its moving average{of}", size=adapter // share),
        ]
        if shard:
            resident.append(Part(name="gathered: two blocks and what is in none", size=gathered))
        elif num_gpus > 1:
            resident.append(Part(name="gradients on their way (DDP's buckets)", size=adapter))
        switches = {"--gradient-checkpointing": checkpointing, "--shard-model": shard}
        yield Option(
            switches=tuple(name for name, on in switches.items() if on),
            resident=tuple(resident),
            phases=(Part(name="activations", size=step.inputs + step.peak - adapter),),
            host=num_gpus * base.total,
        )


def _generation(preset: Preset, clip: Clip, settings: PlanSettings) -> Iterator[Option]:
    """From the fastest to the most frugal way."""
    guided = preset.sampling.is_guided
    joint = guided and preset.sampling.joint_guidance
    ways = [
        (both, MemorySettings(offload=offload)) for offload in OFFLOAD for both in ([True, False] if joint else [False])
    ]
    ways += [
        (False, MemorySettings(offload="all", vae_tiling=True)),
        (False, MemorySettings(offload="encoders", vae_tiling=True, fp8_storage=True)),
        (False, MemorySettings(offload="all", vae_tiling=True, fp8_storage=True)),
    ]
    for both, memory in ways:
        yield _generation_option(preset, clip, settings, memory, passes=2 if both else 1, guided=guided)


def _generation_option(
    preset: Preset, clip: Clip, settings: PlanSettings, memory: MemorySettings, *, passes: int, guided: bool
) -> Option:
    precision = settings.precision
    transformer = estimate.transformer_weights(preset, precision=precision, fusion=clip.fusion, fp8=memory.fp8_storage)
    adapter = estimate.adapter_bytes(preset, rank=settings.rank, fusion=clip.fusion) // (
        2 if precision == "bf16" else 1
    )
    step = estimate.denoising_bytes(
        preset, replace(clip, batch_size=clip.batch_size * passes), rank=settings.rank, precision=precision
    )
    denoising = step.inputs + step.peak
    if memory.fp8_storage:
        denoising += transformer.largest_layer
    resident, host = [], 0
    if memory.offload == "all":  # the block in work, the next one, and what is in no block
        blocks = 2 * (transformer.block + adapter // transformer.num_blocks)
        denoising += blocks + transformer.outside
        host += transformer.total + adapter
    else:
        resident += [Part(name="transformer", size=transformer.total), Part(name="adapter", size=adapter)]
    resident.append(Part(name="VAE", size=estimate.encoder_weights(preset, "vae", precision=_PIXELS).total))
    phases = []
    encoders: tuple[tuple[Literal["text_encoder", "image_encoder"], str, Precision], ...] = (
        ("text_encoder", "prompt", precision),
        ("image_encoder", "image", _PIXELS),
    )
    for part, what, own in encoders:
        weights = estimate.encoder_weights(preset, part, precision=own)
        size = estimate.encoder_bytes(preset, part, precision=own).peak
        if memory.offload == "none":
            resident.append(Part(name=part.replace("_", " "), size=weights.total))
        else:
            size += weights.largest_layer + weights.block
            host += weights.total
        phases.append(Part(name=f"encoding the {what}", size=size))
    encode, decode = (_vae(preset, clip, memory, direction) for direction in ("encode", "decode"))
    phases.insert(0, Part(name="encoding the condition", size=encode))
    phases.append(Part(name=f"denoising, {passes * clip.batch_size} in a pass", size=denoising))
    videos = 2 * clip.batch_size * estimate.vae_bytes(preset, clip, "decode", precision=_PIXELS).saved
    phases.append(Part(name="decoding", size=decode + videos))
    switches = {
        "--no-joint-guidance": guided and passes == 1,
        "--vae-tiling": memory.vae_tiling,
        f"--offload {memory.offload}": memory.offload != "none",
        "--fp8-storage": memory.fp8_storage,
    }
    return Option(
        switches=tuple(name for name, on in switches.items() if on),
        resident=tuple(resident),
        phases=tuple(phases),
        host=host,
    )


def _vae(preset: Preset, clip: Clip, memory: MemorySettings, direction: Literal["encode", "decode"]) -> int:
    if memory.vae_tiling:
        return estimate.tiled_vae_bytes(preset, clip, direction, precision=_PIXELS)
    whole = estimate.vae_bytes(preset, clip, direction, precision=_PIXELS)
    return whole.inputs + whole.peak


def _tokens(preset: Preset, clip: Clip) -> int:
    configs = component_configs(preset)
    frames, height, width = clip.latent_shape(configs["vae"])
    patch = configs["transformer"]["patch_size"]
    tokens = (frames // patch[0]) * (height // patch[1]) * (width // patch[2])
    return tokens if clip.fusion in ("batch", "channel") else 2 * tokens
