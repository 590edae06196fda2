"""The video VAE in bfloat16 on a CPU: less than half the time, with a PSNR of 60 dB against float32.

Weights and activations use the channels-last layout, in which oneDNN's convolutions are fastest. A short clip is
processed in two chunks, its first frame and the rest, instead of one chunk per latent frame; with diffusers' temporal
cache the results are equal. The layers that read or write pixels or latents stay in float32, because the 8-bit mantissa
of bfloat16 is too coarse for coordinates, and so do the sums of the norms.
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

_CHUNK_POSITIONS = 2048
"""Max latent positions per chunk; above 32x64, chunks have one latent frame."""
_INPUT_LAYERS = ("encoder.conv_in", "decoder.conv_in")
_OUTPUT_LAYERS = (
    "encoder.norm_out",
    "encoder.conv_out",
    "quant_conv",
    "post_quant_conv",
    "decoder.norm_out",
    "decoder.conv_out",
)


def use_bfloat16(vae: AutoencoderKLWan) -> None:
    """Compute `vae`, in float32 on a CPU, in bfloat16, in place; pixels and latents stay in float32."""
    for name, module in vae.named_modules():
        dtype = torch.float32 if name in _INPUT_LAYERS + _OUTPUT_LAYERS else torch.bfloat16
        out_dtype = torch.float32 if name in _OUTPUT_LAYERS else torch.bfloat16
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
            module.nonlinearity = nn.SiLU(inplace=True)  # the norm's output is a new tensor
    vae.__class__ = _BfloatVae


class _BfloatVae(AutoencoderKLWan):  # type: ignore[misc]
    """`AutoencoderKLWan` with larger chunks."""

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels `[B, 3, T, H, W]` to latent moments."""
        height, width = x.shape[3:]
        if self.use_tiling and (width > self.tile_sample_min_width or height > self.tile_sample_min_height):
            return super()._encode(x)
        self.clear_cache()
        if self.config.patch_size is not None:
            x = patchify(x, patch_size=self.config.patch_size)
        factor = self.config.scale_factor_spatial
        frames = 4 * _frames_per_chunk(height // factor, width // factor)
        encoded = []
        for chunk in _chunks(x, frames):
            self._enc_conv_idx = [0]
            encoded.append(self.encoder(chunk, feat_cache=self._enc_feat_map, feat_idx=self._enc_conv_idx))
        self.clear_cache()
        return self.quant_conv(torch.cat(encoded, dim=2))

    def _decode(self, z: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """Latents `[B, C, F, h, w]` to pixels in [-1, 1]."""
        height, width = (size * self.spatial_compression_ratio for size in z.shape[3:])
        if self.use_tiling and (width > self.tile_sample_min_width or height > self.tile_sample_min_height):
            return super()._decode(z, return_dict)
        self.clear_cache()
        decoded: list[torch.Tensor] = []
        for chunk in _chunks(self.post_quant_conv(z), _frames_per_chunk(*z.shape[3:])):
            self._conv_idx = [0]
            decoded.append(
                self.decoder(chunk, feat_cache=self._feat_map, feat_idx=self._conv_idx, first_chunk=not decoded)
            )
        self.clear_cache()
        pixels = torch.cat(decoded, dim=2)
        if self.config.patch_size is not None:
            pixels = unpatchify(pixels, patch_size=self.config.patch_size)
        pixels = pixels.clamp(-1, 1)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)


def _frames_per_chunk(height: int, width: int) -> int:
    """Latent frames per chunk at this latent size."""
    return max(1, _CHUNK_POSITIONS // (height * width))


def _chunks(clip: torch.Tensor, frames: int) -> list[torch.Tensor]:
    """Split [B, C, T, H, W] into the first frame, which the VAE encodes separately, and chunks of `frames` frames."""
    clip = clip.contiguous(memory_format=torch.channels_last_3d)
    rest = clip[:, :, 1:]
    return [clip[:, :, :1], *(rest.split(frames, dim=2) if rest.shape[2] else ())]


class _CausalConv(WanCausalConv3d):  # type: ignore[misc]
    """Causal convolution that pads explicitly only in time; the convolution pads in space."""

    out_dtype: torch.dtype

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve `x` `[B, C, T, H, W]`, preceded by cached frames or zeros."""
        x = x.to(self.weight.dtype)
        past = self._padding[4]
        if cache_x is not None and past:
            past -= cache_x.shape[2]
            x = torch.cat([cache_x.to(x.dtype), x], dim=2)
        if past:
            x = F.pad(x, (0, 0, 0, 0, past, 0))
        padding = (0, self._padding[2], self._padding[0])
        return F.conv3d(x, self.weight, self.bias, self.stride, padding).to(self.out_dtype)


class _Norm(WanRMS_norm):  # type: ignore[misc]
    """RMS norm computed in float32; the result has the input type of the next layer."""

    out_dtype: torch.dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize the channels of `x` `[B, C, ...]`."""
        x = x.to(torch.float32, copy=True)
        inverse = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12).reciprocal_()
        return x.mul_(inverse).mul_(self.gamma * self.scale).to(self.out_dtype)
