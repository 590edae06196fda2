"""Conversion between pixels and latents: RGB and XYZ pass separately through the VAE, each with its own statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import AutoencoderKLWan

from fourdnex.model.recipe import Decode

Modality = Literal["rgb", "xyz"]


@dataclass(frozen=True, kw_only=True)
class LatentStatistics:
    """Mean and standard deviation of XYZ latents AFTER Wan's own per-channel normalization.

    One value for all channels, as in the reference implementation, or one value per channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"std: expected as many values as mean ({len(self.mean)}), got {len(self.std)}")
        if min(self.std) <= 0:
            raise ValueError(f"std: expected positive values, got {min(self.std)}")


REFERENCE_STATISTICS = LatentStatistics(mean=(-0.13,), std=(1.70,))
"""Statistics of the 4DNeX reference weights."""


class LatentCodec:
    """Encodes and decodes one modality at a time; latents are normalized to about zero mean and unit variance.

    Pixels are `[B, 3, T, H, W]` in [-1, 1] with T = 4k+1, and H and W multiples of 16: the factors of the VAE, times 2
    for the transformer's patches. Latents are `[B, 16, k+1, H/8, W/8]`.
    """

    def __init__(self, vae: AutoencoderKLWan, statistics: LatentStatistics):
        channels = vae.config.z_dim
        if len(statistics.mean) not in (1, channels):
            raise ValueError(f"statistics: expected 1 or {channels} values, got {len(statistics.mean)}")
        self.vae = vae
        self.statistics = statistics

    def encode(self, pixels: torch.Tensor, modality: Modality) -> torch.Tensor:
        """Normalized latents: the mode of the posterior, so that encoding is deterministic."""
        check_video_size(pixels.shape, self.vae)
        pixels = pixels.to(self.vae.device, self.vae.dtype)
        batch_size = len(pixels) if pixels.device.type == "cpu" else 1  # one clip fills a GPU
        latents = torch.cat([self.vae.encode(part).latent_dist.mode() for part in pixels.split(batch_size)])
        mean, std = self._statistics(modality, latents)
        return (latents - mean) / std

    def decode(self, latents: torch.Tensor, modality: Modality) -> torch.Tensor:
        """Pixels `[B, 3, T, H, W]` in [-1, 1]."""
        return self.vae.decode(self._denormalize(latents, modality)).sample

    def decode_both(
        self, rgb: torch.Tensor, xyz: torch.Tensor, decode: Decode = "apart"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels of both modalities, `[B, 3, T, H, W]` each.

        "joint" decodes them side by side and splits the result, as the reference implementation does; near the seam
        the VAE mixes the two.
        """
        pair = [self._denormalize(rgb, "rgb"), self._denormalize(xyz, "xyz")]
        if decode == "joint":
            left, right = self.vae.decode(torch.cat(pair, dim=-1)).sample.chunk(2, dim=-1)
            return left, right
        if self.vae.device.type == "cpu":  # one batch of two takes half the time, and twice the memory
            first, second = self.vae.decode(torch.cat(pair)).sample.chunk(2)
            return first, second
        return self.vae.decode(pair[0]).sample, self.vae.decode(pair[1]).sample

    def encode_condition(self, first_frame: torch.Tensor, num_frames: int) -> torch.Tensor:
        """Condition latents of `first_frame` [B, 3, H, W] in [-1, 1]: of a clip that is zero after its first frame.

        Normalized with Wan's statistics only, for both modalities, as in the reference implementation.
        """
        return self.encode(self.condition_video(first_frame, num_frames), "rgb")

    def encode_joint_condition(
        self, rgb: torch.Tensor, xyz: torch.Tensor, num_frames: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `encode_condition`, for two first frames [B, 3, H, W] side by side in one pass; returns both halves.

        Latents near the seam depend on the other half, as those that the reference weights were trained on.
        """
        left, right = self.encode_condition(torch.cat([rgb, xyz], dim=-1), num_frames).chunk(2, dim=-1)
        return left, right

    @staticmethod
    def condition_video(first_frame: torch.Tensor, num_frames: int) -> torch.Tensor:
        """A clip [B, 3, T, H, W] of `first_frame` [B, 3, H, W] and zeros after it."""
        video = first_frame.new_zeros(*first_frame.shape[:2], num_frames, *first_frame.shape[2:])
        video[:, :, 0] = first_frame
        return video

    def _denormalize(self, latents: torch.Tensor, modality: Modality) -> torch.Tensor:
        """Latents as the VAE decodes them."""
        latents = latents.to(self.vae.device, self.vae.dtype)
        mean, std = self._statistics(modality, latents)
        return latents * std + mean

    def _statistics(self, modality: Modality, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation [1, C, 1, 1, 1]: those of Wan, and for XYZ both normalizations in one."""
        mean = _channels(self.vae.config.latents_mean, like)
        std = _channels(self.vae.config.latents_std, like)
        if modality == "xyz":
            mean = mean + std * _channels(self.statistics.mean, like)
            std = std * _channels(self.statistics.std, like)
        return mean, std


def check_video_size(shape: tuple[int, ...], vae: AutoencoderKLWan) -> None:
    """Check the shape `[B, 3, T, H, W]` of pixels.

    Raises:
        ValueError: a size does not fit the factors of the VAE; the message has the nearest valid size.
    """
    if len(shape) != 5 or shape[1] != 3:
        raise ValueError(f"pixels: expected [B, 3, T, H, W], got shape {tuple(shape)}")
    temporal, spatial = vae.config.scale_factor_temporal, vae.config.scale_factor_spatial
    frames = shape[2]
    if (frames - 1) % temporal or frames < 1:
        nearest = max(0, round((frames - 1) / temporal)) * temporal + 1
        raise ValueError(f"num_frames: expected {temporal}k+1, got {frames}; the nearest valid number is {nearest}")
    for name, size in (("height", shape[3]), ("width", shape[4])):
        if size % (2 * spatial) or size < 1:
            nearest = max(1, round(size / (2 * spatial))) * 2 * spatial
            raise ValueError(
                f"{name}: expected a multiple of {2 * spatial}, got {size}; the nearest valid size is {nearest}"
            )


def _channels(values: tuple[float, ...] | list[float], like: torch.Tensor) -> torch.Tensor:
    """Values per channel as [1, C, 1, 1, 1], with the type and device of `like`."""
    return torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1)
