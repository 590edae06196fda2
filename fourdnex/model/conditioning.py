"""What the transformer is told: the input image beside the XYZ initialisation, the guided mask, and the prompt."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan

from fourdnex.geometry.pointmaps import sloped_plane
from fourdnex.model.fusion import get_fusion
from fourdnex.model.latents import UPSTREAM_STATISTICS, LatentCodec

PROMPT_SUFFIX = " POINTMAP_STYLE."
RGB_MASK, XYZ_MASK = 1.0, 0.5


def condition_latents(
    image: torch.Tensor, vae: AutoencoderKLWan, num_frames: int, fusion: str = "width"
) -> torch.Tensor:
    """Mask and condition channels for a batch of images.

    Args:
        image: `[B, 3, H, W]` in [-1, 1].
        vae: the video VAE.
        num_frames: frames of the clip to generate, 4k+1.
        fusion: how RGB and XYZ are joined.

    Returns:
        `[B, 4 + 16, F, h, w]`, joined as `fusion` says (width: w is twice one modality's): the guided mask (RGB 1.0,
        XYZ 0.5 on the first frame, 0 after it), then the latents of the image and of the sloped plane, each encoded
        apart as a clip that is zero after its first frame.

    Raises:
        ValueError: for an image that is not `[B, 3, H, W]` or a size that the VAE cannot take.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image: expected [B, 3, H, W], got shape {tuple(image.shape)}")
    codec = LatentCodec(vae, UPSTREAM_STATISTICS)
    rgb = codec.encode_condition(image, num_frames)
    xyz = plane_condition(codec, height=image.shape[2], width=image.shape[3], num_frames=num_frames)
    return join_condition(rgb, xyz.expand_as(rgb), fusion=fusion, factor=vae.config.scale_factor_temporal)


def plane_condition(codec: LatentCodec, *, height: int, width: int, num_frames: int) -> torch.Tensor:
    """Condition latents `[1, 16, F, h, w]` of the sloped plane, the XYZ half's first frame."""
    plane = torch.from_numpy(sloped_plane(height, width)).permute(2, 0, 1)[None]
    return codec.encode_condition(plane.to(codec.vae.device, codec.vae.dtype), num_frames)


def join_condition(rgb: torch.Tensor, xyz: torch.Tensor, *, fusion: str = "width", factor: int = 4) -> torch.Tensor:
    """Mask and condition channels `[B, factor + C, F, ...]` from both modalities' latents `[B, C, F, h, w]`."""
    strategy = get_fusion(fusion)
    mask = strategy.join(guided_mask(rgb, RGB_MASK, factor), guided_mask(xyz, XYZ_MASK, factor))
    return torch.cat([mask, strategy.join(rgb, xyz)], dim=1)


def guided_mask(latents: torch.Tensor, value: float, factor: int = 4) -> torch.Tensor:
    """Mask `[B, factor, F, h, w]` of one modality: `value` on the first video frame, 0 on the others.

    Each latent frame has one channel a video frame it stands for; the first latent frame stands for the first video
    frame alone, repeated `factor` times.
    """
    batch, _, num_frames, height, width = latents.shape
    mask = latents.new_zeros(batch, factor, num_frames, height, width)
    mask[:, :, 0] = value
    return mask


def styled_prompt(caption: str) -> str:
    """The prompt of the 6D model for a caption."""
    return caption.strip() + PROMPT_SUFFIX
