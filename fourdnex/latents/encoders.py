"""The components of a base that encode clips: VAE, text encoder and image encoder, without the transformer."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline
from transformers import CLIPVisionModel, T5Tokenizer, UMT5EncoderModel

from fourdnex.model import bfloat_vae
from fourdnex.model.base_loading import load_components, resolve_device, weight_dtype
from fourdnex.model.captions import tokenize_caption
from fourdnex.model.option_types import Precision
from fourdnex.model.presets import get_preset

_TOKENIZER_LOCK = threading.Lock()  # a tokenizer is not thread-safe: its truncation settings are part of its state


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoders:
    """Encoders of a base, on one device."""

    vae: AutoencoderKLWan
    text_encoder: UMT5EncoderModel
    tokenizer: T5Tokenizer
    image_encoder: CLIPVisionModel
    image_processor: Any  # CLIPImageProcessor, of torchvision or PIL

    @classmethod
    def load(cls, model: str | Path = "tiny", *, device: str | None = None, precision: Precision = "auto") -> Encoders:
        """Load the encoders of a base.

        Args:
            model: preset or folder of the base.
            device: default: the GPU if there is one, else the CPU.
            precision: compute precision of the VAE on a CPU, and of the text encoder on a GPU. Everything else is in
                float32.

        Raises:
            ValueError: a file of the base is truncated.
        """
        device, resolved = resolve_device(device, precision)
        dtype = weight_dtype(device, resolved)
        pipeline = load_components(WanImageToVideoPipeline, get_preset(model), None, dtype).to(device)
        if device == "cpu" and resolved == "bf16":
            bfloat_vae.use_bfloat16(pipeline.vae)
        names = ("vae", "text_encoder", "tokenizer", "image_encoder", "image_processor")
        return cls(**{name: getattr(pipeline, name) for name in names})

    @property
    def device(self) -> torch.device:
        """Device of all encoders."""
        device: torch.device = self.vae.device
        return device

    def encode_caption(self, caption: str, name: str = "caption") -> torch.Tensor:
        """Text embedding [L, D] of a caption with the style suffix, without padding.

        Raises:
            ValueError: the text is too long for the text encoder; the message names the caption by `name`.
        """
        with _TOKENIZER_LOCK:
            tokens = tokenize_caption(self.tokenizer, caption, name)
        ids, mask = tokens.input_ids.to(self.device), tokens.attention_mask.to(self.device)
        embedding: torch.Tensor = self.text_encoder(ids, mask).last_hidden_state[0]
        return embedding

    def encode_image(self, image: np.ndarray) -> torch.Tensor:
        """Image embedding [N, D] of an image [H, W, 3] uint8: the output of the last layer but one."""
        pixels = self.image_processor(images=[image], return_tensors="pt").to(self.device)
        embedding: torch.Tensor = self.image_encoder(**pixels, output_hidden_states=True).hidden_states[-2][0]
        return embedding


class CaptionCache:
    """Text embeddings of distinct captions, each encoded once; threads may share it."""

    def __init__(self, encoders: Encoders) -> None:
        self._encoders = encoders
        self._embeddings: dict[str, torch.Tensor] = {}
        self._lock = threading.Lock()

    def encode(self, caption: str, name: str = "caption") -> torch.Tensor:
        """Text embedding [L, D], see `Encoders.encode_caption`.

        Raises:
            ValueError: the text is too long for the text encoder; the message names the caption by `name`.
        """
        with self._lock:
            if caption not in self._embeddings:
                self._embeddings[caption] = self._encoders.encode_caption(caption, name)
            return self._embeddings[caption]
