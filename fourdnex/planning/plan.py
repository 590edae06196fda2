"""Itemized memory of training and generation: whether a base model fits into given GPUs, and with which options."""

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
from fourdnex.planning.passes import ClipShape, Precision

GIB = 2**30
_PIXELS: Precision = "no"  # VAE and image encoder always run in float32


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """Base model, GPUs and workload of a plan."""

    model: str = "wan2.1-i2v-14b-480p"
    """Preset or folder of the base model; its weights are not needed."""
    gpus: str = "1x24GB"
    """Number of GPUs and memory of each, such as 8x80GB."""
    num_frames: int | None = None
    """Frames of a clip, 4k+1, for a hypothetical size. Default: the base's size, which training and generation use."""
    height: int | None = None
    """Height in pixels, for a hypothetical size. Images and clips of other aspect ratios have about the base's area."""
    width: int | None = None
    """Width of one modality in pixels, for a hypothetical size."""
    fusion: FusionName = "width"
    """How RGB and XYZ are joined."""
    batch_size: int = 1
    """Clips or images per GPU and batch."""
    rank: int = 64
    """LoRA rank."""
    precision: Precision = "bf16"
    """Precision of all components but VAE and image encoder, which use float32: bf16, or no for float32."""
    reserve: float = 0.1
    """Share of GPU memory reserved for the driver, kernel workspaces and fragmentation."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.reserve < 1:
            raise ValueError(f"reserve: expected a number in [0, 1), got {self.reserve}")
        parse_gpus(self.gpus)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One item in GPU memory and its bytes."""

    name: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Option:
    """A set of command options, and the memory it needs per GPU."""

    switches: tuple[str, ...]
    """Options of the command; empty for the defaults."""
    resident: tuple[Part, ...]
    """Items in memory all the time."""
    phases: tuple[Part, ...]
    """Temporary items, one at a time."""
    host: int = 0
    """Bytes of host memory: for offloaded weights in generation, and while each process loads the base in training."""

    @property
    def peak(self) -> int:
        """Peak bytes per GPU."""
        return sum(part.size for part in self.resident) + max(phase.size for phase in self.phases)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Options for training and generation, the simplest first."""

    settings: PlanSettings
    preset: Preset
    clip: ClipShape
    num_tokens: int
    """Tokens per sequence."""
    num_gpus: int
    available: int
    """Usable bytes per GPU."""
    training: tuple[Option, ...]
    generation: tuple[Option, ...]

    def first_fit(self, options: tuple[Option, ...]) -> Option | None:
        """The first option that fits; None if there is none."""
        return next((option for option in options if option.peak <= self.available), None)


def make_plan(settings: PlanSettings) -> Plan:
    """Compute the memory of all options for training and generation.

    Raises:
        ValueError: if the base does not support the size; the message names the nearest one.
    """
    preset = get_preset(settings.model)
    clip = ClipShape(
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
    """Parse "8x80GB" to the number of GPUs and bytes of each; GB are 2^30 bytes, which is about what cards have.

    Raises:
        ValueError: if the text has another form.
    """
    found = re.fullmatch(r"(?:(\d+)\s*x\s*)?(\d+(?:\.\d+)?)\s*G(?:i?B)?", text.strip(), re.IGNORECASE)
    count, size = (int(found[1] or 1), float(found[2])) if found else (0, 0.0)
    if count < 1 or size <= 0:
        raise ValueError(f"gpus: expected number and memory such as 8x80GB, got {text!r}")
    return count, round(size * GIB)


def _training(preset: Preset, clip: ClipShape, settings: PlanSettings, num_gpus: int) -> Iterator[Option]:
    """Without options, with gradient checkpointing, then also with weights sharded over the GPUs (FSDP2)."""
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
            Part(name=f"adapter gradients{of}", size=adapter // share),
            Part(name=f"adapter optimizer state{of}", size=2 * adapter // share),
            Part(name=f"adapter moving average{of}", size=adapter // share),
        ]
        if shard:
            resident.append(Part(name="gathered: two blocks and all other layers", size=gathered))
        elif num_gpus > 1:
            resident.append(Part(name="gradients in DDP's buckets", size=adapter))
        switches = {"--gradient-checkpointing": checkpointing, "--shard-model": shard}
        yield Option(
            switches=tuple(name for name, on in switches.items() if on),
            resident=tuple(resident),
            phases=(Part(name="activations", size=step.inputs + step.peak - adapter),),
            host=num_gpus * base.total,
        )


def _generation(preset: Preset, clip: ClipShape, settings: PlanSettings) -> Iterator[Option]:
    """From the fastest option to the one with the least memory."""
    guided = preset.sampling.is_guided
    joint = guided and preset.sampling.joint_guidance
    candidates = [
        (both, MemorySettings(offload=offload)) for offload in OFFLOAD for both in ([True, False] if joint else [False])
    ]
    candidates += [
        (False, MemorySettings(offload="all", vae_tiling=True)),
        (False, MemorySettings(offload="encoders", vae_tiling=True, fp8_storage=True)),
        (False, MemorySettings(offload="all", vae_tiling=True, fp8_storage=True)),
    ]
    for both, memory in candidates:
        yield _generation_option(preset, clip, settings, memory, passes=2 if both else 1, guided=guided)


def _generation_option(
    preset: Preset, clip: ClipShape, settings: PlanSettings, memory: MemorySettings, *, passes: int, guided: bool
) -> Option:
    """Memory of generation with `memory`, and `passes` transformer inputs per image and step."""
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
    if memory.offload == "all":  # the running block, the next one, and all other layers
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
    for part, source, part_precision in encoders:
        weights = estimate.encoder_weights(preset, part, precision=part_precision)
        size = estimate.encoder_bytes(preset, part, precision=part_precision).peak
        if memory.offload == "none":
            resident.append(Part(name=part.replace("_", " "), size=weights.total))
        else:
            size += weights.largest_layer + weights.block
            host += weights.total
        phases.append(Part(name=f"encoding the {source}", size=size))
    encode, decode = (_vae(preset, clip, memory, direction) for direction in ("encode", "decode"))
    phases.insert(0, Part(name="encoding the condition", size=encode))
    phases.append(Part(name=f"denoising, {passes * clip.batch_size} per pass", size=denoising))
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


def _vae(preset: Preset, clip: ClipShape, memory: MemorySettings, direction: Literal["encode", "decode"]) -> int:
    """Peak bytes of one VAE pass."""
    if memory.vae_tiling:
        return estimate.tiled_vae_bytes(preset, clip, direction, precision=_PIXELS)
    whole = estimate.vae_bytes(preset, clip, direction, precision=_PIXELS)
    return whole.inputs + whole.peak


def _tokens(preset: Preset, clip: ClipShape) -> int:
    """Tokens per sequence."""
    configs = component_configs(preset)
    frames, height, width = clip.latent_shape(configs["vae"])
    patch = configs["transformer"]["patch_size"]
    tokens = (frames // patch[0]) * (height // patch[1]) * (width // patch[2])
    return tokens if clip.fusion in ("batch", "channel") else 2 * tokens
