"""Tokenization of captions."""

from __future__ import annotations

from diffusers.pipelines.wan.pipeline_wan_i2v import prompt_clean
from transformers import BatchEncoding, T5Tokenizer

from fourdnex.model.conditioning import styled_prompt
from fourdnex.model.text_padding import TEXT_TOKENS


def tokenize_caption(tokenizer: T5Tokenizer, caption: str, name: str = "caption") -> BatchEncoding:
    """Tokenize a caption with the style suffix, cleaned as in diffusers, without padding; one row.

    Raises:
        ValueError: if the text is too long for the text encoder; the message names the caption by `name`.
    """
    tokens = tokenizer(prompt_clean(styled_prompt(caption)), return_tensors="pt", verbose=False)
    if (count := tokens.input_ids.shape[1]) > TEXT_TOKENS:
        raise ValueError(
            f"{name}: expected at most {TEXT_TOKENS} tokens with the style suffix, "
            f"got {count} in {len(caption)} characters"
        )
    return tokens
