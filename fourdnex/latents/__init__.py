"""Latents: the codec between pixels and latents, the encoding of clips, and the shards that training reads."""
