"""LoRA fine-tuning on latent shards."""
