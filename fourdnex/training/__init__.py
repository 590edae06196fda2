"""Pretraining of the tiny base, encoding of clips into latents, and LoRA fine-tuning."""
