"""The encoders of the tiny base's transformer conditions: text and first frame."""

from __future__ import annotations

import torch
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, T5Tokenizer, UMT5EncoderModel

from fourdnex.model.text_padding import TEXT_TOKENS


class ConditioningEncoders(nn.Module):
    """A frozen text encoder, and a new image encoder, which is trained together with the transformer."""

    def __init__(self, tokenizer: T5Tokenizer, text: UMT5EncoderModel):
        super().__init__()
        self.tokenizer = tokenizer
        self.text = text.requires_grad_(False)
        image = CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=64,
            patch_size=16,
        )
        self.image = CLIPVisionModel(image)
        self.processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})

    def forward(self, prompts: list[str], pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of prompts [B, 512, 64], zero after the last token, and of images [B, 17, 64].

        Args:
            prompts: B prompts.
            pixels: preprocessed images [B, 3, 64, 64].
        """
        tokens = self.tokenizer(prompts, padding=True, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt")
        mask = tokens.attention_mask
        text = self.text(tokens.input_ids, mask).last_hidden_state * mask[..., None]
        text = nn.functional.pad(text, (0, 0, 0, TEXT_TOKENS - text.shape[1]))
        return text, self.embed_image(pixels)

    def embed_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings [B, 17, 64] of preprocessed images [B, 3, 64, 64]: the output of the last layer but one."""
        embedded: torch.Tensor = self.image(pixels, output_hidden_states=True).hidden_states[-2]
        return embedded
