"""The frame stage of the VAE's pretraining: a causal video VAE trained as an image VAE.

On a single frame a causal 3D convolution sees only zeros before its last temporal tap. The frame stage therefore runs
the same weights as 2D convolutions (`single_frame_convolutions`): the same numbers in a third of the time. All other
taps start at zero and the temporal resamplers as averages and copies (`init_as_frame_model`), so that a static clip is
encoded as its frame from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample, WanResidualBlock
from torch.nn import functional as F


def init_as_frame_model(vae: AutoencoderKLWan) -> None:
    """Zero all temporal taps except the last; temporal resampling averages (down) and copies (up). In place."""
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, WanResidualBlock):
                module.conv2.weight.zero_()  # every block starts as its shortcut connection
        for module in vae.modules():
            if isinstance(module, WanCausalConv3d) and module.weight.shape[2] == 3 and module.weight.shape[3] == 3:
                module.weight[:, :, :-1] = 0
        for module in vae.modules():
            if not isinstance(module, WanResample) or not hasattr(module, "time_conv"):
                continue
            weight, bias = module.time_conv.weight, module.time_conv.bias
            weight.zero_()
            bias.zero_()
            eye = torch.eye(weight.shape[1])
            if module.mode == "downsample3d":
                weight[:, :, 1, 0, 0] = 0.5 * eye
                weight[:, :, 2, 0, 0] = 0.5 * eye
            else:
                weight[:, :, -1, 0, 0] = torch.cat([eye, eye])


@contextmanager
def single_frame_convolutions(vae: AutoencoderKLWan) -> Iterator[None]:
    """Within the context, the VAE's causal 3D convolutions run as 2D ones; correct only for inputs of one frame."""

    def forward_2d(module: WanCausalConv3d) -> Callable[..., torch.Tensor]:
        """Forward method of a convolution with its last temporal tap alone."""
        spatial = module._padding[0]

        def forward(x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
            return F.conv2d(x[:, :, 0], module.weight[:, :, -1], module.bias, padding=spatial).unsqueeze(2)

        return forward

    modules = [m for m in vae.modules() if isinstance(m, WanCausalConv3d) and m.stride[0] == 1]
    for module in modules:
        module.forward = forward_2d(module)
    try:
        yield
    finally:
        for module in modules:
            del module.forward
