"""The video VAE in bfloat16 on a CPU: half the time and less, at 60 dB from float32.

Weights and activations lie with their channels last, where oneDNN's convolutions are fastest. A short clip goes through
in two parts, its first frame and the rest, instead of one part for every latent frame; diffusers' temporal cache makes
these the same. In float32 remain what reads pixels and writes latents, what reads latents and writes pixels (8 bits are
too few for a coordinate), and the sums of the norms.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanResidualBlock,
    WanRMS_norm,
    WanUpsample,
    patchify,
    unpatchify,
)
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import nn
from torch.nn import functional as F

_TOGETHER = 2048
"""Positions of latents in one part: beyond 32x64 it is one latent frame at a time."""
_FIRST = ("encoder.conv_in", "decoder.conv_in")
_LAST = (
    "encoder.norm_out",
    "encoder.conv_out",
    "quant_conv",
    "post_quant_conv",
    "decoder.norm_out",
    "decoder.conv_out",
)


def use_bfloat16(vae: AutoencoderKLWan) -> None:
    """Let `vae`, in float32 on a CPU, compute in bfloat16, in place; pixels and latents stay float32."""
    for name, module in vae.named_modules():
        dtype = torch.float32 if name in _FIRST + _LAST else torch.bfloat16
        out_dtype = torch.float32 if name in _LAST else torch.bfloat16
        if isinstance(module, WanCausalConv3d):
            module.__class__ = _CausalConv
            module.weight.data = module.weight.to(dtype, memory_format=torch.channels_last_3d)
            module.to(dtype)
            module.out_dtype = out_dtype
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.to(dtype, memory_format=torch.channels_last)
            module.to(dtype)
        elif isinstance(module, WanRMS_norm):
            module.__class__ = _Norm
            module.out_dtype = out_dtype
        elif isinstance(module, WanUpsample):
            module.__class__ = nn.Upsample
        elif isinstance(module, WanResidualBlock) and isinstance(module.nonlinearity, nn.SiLU):
            module.nonlinearity = nn.SiLU(inplace=True)  # of what the norm has made anew
    vae.__class__ = _BfloatVae


class _BfloatVae(AutoencoderKLWan):
    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[3:]
        if self.use_tiling and (width > self.tile_sample_min_width or height > self.tile_sample_min_height):
            return super()._encode(x)
        self.clear_cache()
        if self.config.patch_size is not None:
            x = patchify(x, patch_size=self.config.patch_size)
        factor = self.config.scale_factor_spatial
        frames = 4 * _frames_together(height // factor, width // factor)
        parts = []
        for part in _first_and_rest(x, frames):
            self._enc_conv_idx = [0]
            parts.append(self.encoder(part, feat_cache=self._enc_feat_map, feat_idx=self._enc_conv_idx))
        self.clear_cache()
        return self.quant_conv(torch.cat(parts, dim=2))

    def _decode(self, z: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        height, width = (size * self.spatial_compression_ratio for size in z.shape[3:])
        if self.use_tiling and (width > self.tile_sample_min_width or height > self.tile_sample_min_height):
            return super()._decode(z, return_dict)
        self.clear_cache()
        parts: list[torch.Tensor] = []
        for part in _first_and_rest(self.post_quant_conv(z), _frames_together(*z.shape[3:])):
            self._conv_idx = [0]
            parts.append(self.decoder(part, feat_cache=self._feat_map, feat_idx=self._conv_idx, first_chunk=not parts))
        self.clear_cache()
        pixels = torch.cat(parts, dim=2)
        if self.config.patch_size is not None:
            pixels = unpatchify(pixels, patch_size=self.config.patch_size)
        pixels = pixels.clamp(-1, 1)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)


def _frames_together(height: int, width: int) -> int:
    return max(1, _TOGETHER // (height * width))


def _first_and_rest(clip: torch.Tensor, frames: int) -> list[torch.Tensor]:
    """The first frame of [B, C, T, H, W], which the VAE treats unlike the others, and the rest, so many at a time."""
    clip = clip.contiguous(memory_format=torch.channels_last_3d)
    rest = clip[:, :, 1:]
    return [clip[:, :, :1], *(rest.split(frames, dim=2) if rest.shape[2] else ())]


class _CausalConv(WanCausalConv3d):
    """Spatial padding is the convolution's own, and only the past is put before the clip."""

    out_dtype: torch.dtype

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        x = x.to(self.weight.dtype)
        before = self._padding[4]
        if cache_x is not None and before:
            before -= cache_x.shape[2]
            x = torch.cat([cache_x.to(x.dtype), x], dim=2)
        if before:
            x = F.pad(x, (0, 0, 0, 0, before, 0))
        padding = (0, self._padding[2], self._padding[0])
        return F.conv3d(x, self.weight, self.bias, self.stride, padding).to(self.out_dtype)


class _Norm(WanRMS_norm):
    """Computed in float32; its result has the type that the next layer takes."""

    out_dtype: torch.dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(torch.float32, copy=True)
        inverse = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12).reciprocal_()
        return x.mul_(inverse).mul_(self.gamma * self.scale).to(self.out_dtype)
