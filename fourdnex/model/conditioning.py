"""Conditioning of the transformer: first frames of RGB and XYZ, guided mask, and prompt."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from fourdnex.geometry.pointmaps import normalize_pointmaps, sloped_plane
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentCodec, check_video_size
from fourdnex.model.fusion import get_fusion
from fourdnex.model.recipe import Condition
from fourdnex.model.vae_threads import CLIPS_TOGETHER, map_clips

PROMPT_SUFFIX = " POINTMAP_STYLE."
RGB_MASK, XYZ_MASK = 1.0, 0.5
"""Default values of the guided mask on the first RGB and XYZ frames."""


def condition_latents(
    image: torch.Tensor,
    vae: AutoencoderKLWan,
    num_frames: int,
    fusion: str = "width",
    *,
    xyz_mask: float = XYZ_MASK,
    first_pointmaps: np.ndarray | None = None,
    condition: Condition = "apart",
) -> torch.Tensor:
    """Mask and condition channels for a batch of images.

    Args:
        image: `[B, 3, H, W]` in [-1, 1].
        vae: the video VAE.
        num_frames: number of frames to generate, 4k+1.
        fusion: how RGB and XYZ are joined.
        xyz_mask: guided mask on the first XYZ frame.
        first_pointmaps: `[B, H, W, 3]` first-frame point maps in the cameras' frames, in any unit; None takes the
            sloped plane.
        condition: "joint" encodes image and XYZ side by side in one pass, and requires width fusion.

    Returns:
        `[B, 4 + 16, F, h, w]`, joined by `fusion` (width: w is twice that of one modality): the guided mask (1.0 for
        RGB and `xyz_mask` for XYZ on the first frame, 0 on later frames), then the latents of the image and of the
        point map or sloped plane, encoded as clips that are zero after their first frame. Without gradients.

    Raises:
        ValueError: if `image` is not `[B, 3, H, W]`, the VAE does not support the size, `first_pointmaps` has another
            shape or no extent, or `condition` is "joint" with another fusion.
    """
    if condition == "joint" and fusion != "width":
        raise ValueError(f"condition: expected apart with {fusion} fusion, got joint")
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image: expected [B, 3, H, W], got shape {tuple(image.shape)}")
    height, width = image.shape[2:]
    check_video_size((len(image), 3, num_frames, height, width), vae)
    xyz_image = xyz_first_frame(first_pointmaps, height=height, width=width).to(image)
    codec = LatentCodec(vae, REFERENCE_STATISTICS)
    if condition == "joint":
        pairs = zip(image.split(1), xyz_image.expand_as(image).split(1), strict=True)
        encoded = list(map_clips(lambda codec, pair: codec.encode_joint_condition(*pair, num_frames), pairs, codec))
        rgb, xyz = (torch.cat(halves) for halves in zip(*encoded, strict=True))
    else:
        frames = torch.cat([image, xyz_image]).split(CLIPS_TOGETHER)
        parts = map_clips(lambda codec, part: codec.encode_condition(part, num_frames), frames, codec)
        rgb, xyz = torch.cat(list(parts)).split([len(image), len(xyz_image)])
    factor = vae.config.scale_factor_temporal
    return join_condition(rgb, xyz.expand_as(rgb), fusion=fusion, factor=factor, xyz_mask=xyz_mask)


def xyz_first_frame(first_pointmaps: np.ndarray | None, *, height: int, width: int) -> torch.Tensor:
    """First XYZ frame: `[B, 3, H, W]` of first-frame point maps, or `[1, 3, H, W]` of the sloped plane (None).

    Raises:
        ValueError: if `first_pointmaps` is not `[B, H, W, 3]` of this size, or a point map has no extent.
    """
    if first_pointmaps is None:
        return torch.from_numpy(sloped_plane(height, width)).permute(2, 0, 1)[None]
    if first_pointmaps.ndim != 4 or first_pointmaps.shape[1:] != (height, width, 3):
        raise ValueError(f"first_pointmaps: expected [B, {height}, {width}, 3], got shape {first_pointmaps.shape}")
    return torch.from_numpy(np.stack([normalized_first_pointmap(pointmap) for pointmap in first_pointmaps])).permute(
        0, 3, 1, 2
    )


def plane_condition(codec: LatentCodec, *, height: int, width: int, num_frames: int) -> torch.Tensor:
    """Condition latents `[1, 16, F, h, w]` of the sloped plane as the first XYZ frame."""
    return codec.encode_condition(xyz_first_frame(None, height=height, width=width), num_frames)


def normalized_first_pointmap(pointmap: np.ndarray) -> np.ndarray:
    """Normalize a first-frame point map [H, W, 3] in any unit for the XYZ condition: [H, W, 3] float32 in [-1, 1].

    It is normalized on its own, because the extent of the clip is unknown in generation. Invalid pixels become 0.
    """
    normalized, _ = normalize_pointmaps(pointmap[None])
    return np.clip(np.nan_to_num(normalized[0], nan=0.0), -1, 1)


def join_condition(
    rgb: torch.Tensor, xyz: torch.Tensor, *, fusion: str = "width", factor: int = 4, xyz_mask: float = XYZ_MASK
) -> torch.Tensor:
    """Join latents `[B, C, F, h, w]` of both modalities and their masks to `[B, factor + C, F, ...]`."""
    strategy = get_fusion(fusion)
    mask = strategy.join(guided_mask(rgb, RGB_MASK, factor), guided_mask(xyz, xyz_mask, factor))
    return torch.cat([mask, strategy.join(rgb, xyz)], dim=1)


def guided_mask(latents: torch.Tensor, value: float, factor: int = 4) -> torch.Tensor:
    """Mask `[B, factor, F, h, w]` of one modality: `value` on the first video frame, 0 on the others.

    A latent frame has one channel per video frame that it represents. The first latent frame represents only the first
    video frame, repeated `factor` times.
    """
    batch, _, num_frames, height, width = latents.shape
    mask = latents.new_zeros(batch, factor, num_frames, height, width)
    mask[:, :, 0] = value
    return mask


def styled_prompt(caption: str) -> str:
    """Caption with the style suffix of the 6D model."""
    return caption.strip() + PROMPT_SUFFIX
