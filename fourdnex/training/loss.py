"""The flow-matching loss of the 6D transformer."""

from __future__ import annotations

import torch

from fourdnex.model.conditioning import XYZ_MASK, join_condition
from fourdnex.model.fusion import get_fusion

MIN_MEAN_WEIGHT = 0.1
"""Mean weight of a clip below which its XYZ error counts less."""


def flow_matching_loss(
    transformer: torch.nn.Module,
    batch: dict[str, torch.Tensor],
    *,
    sigma: torch.Tensor,
    noise: torch.Tensor,
    fusion: str = "width",
    xyz_weight: float = 1.0,
    xyz_mask: float = XYZ_MASK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow-matching loss on both modalities: input x_s = (1-s) x_0 + s noise, target noise - x_0.

    With weights of latent cells, the XYZ error of a clip is its weighted mean, so that the scale of the loss does not
    depend on how much is known. Below a mean weight of `MIN_MEAN_WEIGHT` it decreases with the mean weight: few known
    cells do not count as much as a whole clip.

    Args:
        transformer: the 6D transformer, or a wrapper around it.
        batch: `latents` and `condition` [B, 2, 16, F, h, w] (RGB, XYZ), `text` and `image` embeddings; optionally
            `xyz_weight` [B, F, h, w] in [0, 1], the weight of the XYZ error of each latent cell.
        sigma: noise levels [B] in [0, 1].
        noise: Gaussian noise [B, 2, 16, F, h, w].
        fusion: fusion of the transformer.
        xyz_weight: weight of the XYZ error; the RGB error has weight 1.
        xyz_mask: guided mask value of the first XYZ frame.

    Returns:
        The loss, and the mean squared errors of RGB and XYZ [2], detached.
    """
    s = sigma.view(-1, 1, 1, 1, 1, 1)
    clean = batch["latents"]
    noisy = (1 - s) * clean + s * noise
    strategy = get_fusion(fusion)
    condition = join_condition(batch["condition"][:, 0], batch["condition"][:, 1], fusion=fusion, xyz_mask=xyz_mask)
    hidden = torch.cat([strategy.join(noisy[:, 0], noisy[:, 1]), condition], dim=1)
    velocity = transformer(
        hidden,
        timestep=sigma * 1000,
        encoder_hidden_states=batch["text"],
        encoder_hidden_states_image=batch["image"],
        return_dict=False,
    )[0]
    error = torch.stack(strategy.split(velocity.float()), dim=1) - (noise - clean)
    if (weight := batch.get("xyz_weight")) is None:
        parts = error.square().mean(dim=(0, 2, 3, 4, 5))
    else:
        parts = torch.stack([error[:, 0].square().mean(), _weighted_mean(error[:, 1].square(), weight)])
    return (parts[0] + xyz_weight * parts[1]) / (1 + xyz_weight), parts.detach()


def _weighted_mean(square: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean over clips of the weighted mean of squared errors [B, C, F, h, w] with weights [B, F, h, w]."""
    total = (square * weight[:, None].to(square)).mean(dim=(1, 2, 3, 4))
    return (total / weight.to(square).mean(dim=(1, 2, 3)).clamp_min(MIN_MEAN_WEIGHT)).mean()
