"""Weights in the names of the public 4DNeX code."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fourdnex.model.fusion import DOMAIN_KEY
from fourdnex.model.transformer import SixDTransformer

UPSTREAM_DOMAIN_KEY = "learnable_domain_embeddings"


def load_upstream_weights(transformer: SixDTransformer, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Load a state dict of the public code into `transformer`, in place.

    Names are those of diffusers' Wan transformer, plus `learnable_domain_embeddings` `[2, inner_dim]`.

    Raises:
        ValueError: if a key is missing or unexpected, or a shape differs; the message lists them.
    """
    renamed = {DOMAIN_KEY if key == UPSTREAM_DOMAIN_KEY else key: value for key, value in state_dict.items()}
    expected = transformer.state_dict()
    missing = sorted(expected.keys() - renamed.keys())
    unexpected = sorted(renamed.keys() - expected.keys())
    shapes = [
        f"{key} (expected {tuple(expected[key].shape)}, got {tuple(renamed[key].shape)})"
        for key in sorted(expected.keys() & renamed.keys())
        if expected[key].shape != renamed[key].shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(f"state_dict: missing keys {missing}, unexpected keys {unexpected}, wrong shapes {shapes}")
    transformer.load_state_dict(renamed)
