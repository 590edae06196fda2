"""The tiny depth network: EfficientNet-Lite0 encoder, any image size, saved and loaded by transformers."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForDepthEstimation

from fourdnex.annotation.lite_depth import (
    Convolution,
    LiteDepthConfig,
    LiteDepthForDepthEstimation,
    load_imagenet,
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return LiteDepthForDepthEstimation(LiteDepthConfig(upsampling=1, widths=(8, 8, 8, 8, 8))).eval()


def _imagenet(network):
    """Random weights under the names of the published file."""
    parts = {"_conv_stem": ("_bn0", network.encoder.stem)}
    for index, block in enumerate(network.encoder.blocks):
        start = f"_blocks.{index}."
        if isinstance(block.expand, Convolution):
            parts[f"{start}_expand_conv"] = (f"{start}_bn0", block.expand)
        parts[f"{start}_depthwise_conv"] = (f"{start}_bn1", block.depthwise)
        parts[f"{start}_project_conv"] = (f"{start}_bn2", block.project)
    weights = {}
    for name, (norm, part) in parts.items():
        weights[f"{name}.weight"] = torch.randn_like(part.convolution.weight)
        width = part.convolution.weight.shape[0]
        weights |= {f"{norm}.{key}": torch.randn(width) for key in ("weight", "bias", "running_mean")}
        weights[f"{norm}.running_var"] = torch.rand(width) + 0.5
    return weights


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (80, 80), (96, 144)])
def test_depth_has_the_size_of_the_image_and_is_positive(network, size):
    with torch.no_grad():
        depth = network(torch.randn(2, 3, *size)).predicted_depth
    assert depth.shape == (2, *size) and (depth > 0).all()


def test_normalization_is_folded_into_the_convolutions(network):
    weights = _imagenet(network)
    load_imagenet(network, weights)
    x = torch.randn(1, 3, 16, 16)
    # By hand: with stride 2, TensorFlow pads at the bottom and the right only; the epsilon of the norm is 1e-3.
    plain = F.conv2d(F.pad(x, (0, 1, 0, 1)), weights["_conv_stem.weight"], stride=2)
    mean, variance = weights["_bn0.running_mean"], weights["_bn0.running_var"]
    normal = F.batch_norm(plain, mean, variance, weights["_bn0.weight"], weights["_bn0.bias"], eps=1e-3)
    assert torch.allclose(network.encoder.stem(x), F.relu6(normal), atol=1e-4)


def test_a_missing_weight_raises(network):
    weights = _imagenet(network)
    del weights["_blocks.3._bn1.running_var"]
    with pytest.raises(KeyError, match=r"_blocks\.3\._bn1\.running_var"):
        load_imagenet(network, weights)


def test_it_is_saved_and_loaded_by_transformers(network, tmp_path):
    network.save_pretrained(tmp_path)
    again = AutoModelForDepthEstimation.from_pretrained(tmp_path, use_safetensors=True)
    assert isinstance(again, LiteDepthForDepthEstimation)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        # Loaded weights have another memory alignment, which may change the last digit.
        torch.testing.assert_close(again(x).predicted_depth, network(x).predicted_depth)
