"""How `pretrained/fourdnex-tiny` is made: the VAE first, then the transformer with its encoders.

```
fourdnex pretrain --output pretrained/fourdnex-tiny --work workspace/pretrain
```
"""

from __future__ import annotations

import shutil
from pathlib import Path

from fourdnex.files import sha256_file

NUM_WORLDS, FIRST_SEED = 1000, 10_000
"""Worlds that the transformer learns from, and their first seed."""


def pretrain_base(
    output: Path, work: Path, *, frame_minutes: float, clip_minutes: float, transformer_minutes: float, seed: int = 0
) -> Path:
    """Train a tiny base from nothing and write it to `output` with its logs and curves in `output/training`.

    A VAE that is already in `work/vae` is taken as it is, and so are worlds encoded by it.

    Raises:
        ValueError: if a loss is not finite.
    """
    from diffusers import AutoencoderKLWan

    from fourdnex.training.encoded_worlds import encode_worlds, set_latent_moments
    from fourdnex.training.pictures import plot_curves
    from fourdnex.training.pretrain_transformer import TransformerPretraining, pretrain_transformer
    from fourdnex.training.pretrain_vae import VaePretraining, pretrain_vae

    if not (work / "vae" / "finished").exists():
        pretrain_vae(VaePretraining(frame_minutes=frame_minutes, clip_minutes=clip_minutes, seed=seed), work / "vae")
        vae = AutoencoderKLWan.from_pretrained(work / "vae").eval()
        set_latent_moments(vae)
        vae.save_pretrained(work / "vae")
        (work / "vae" / "finished").touch()
    vae = AutoencoderKLWan.from_pretrained(work / "vae").eval().requires_grad_(False)
    digest = sha256_file(work / "vae" / "diffusion_pytorch_model.safetensors")[:12]
    worlds = work / f"worlds-{digest}"
    encode_worlds(work / "vae", worlds, num_worlds=NUM_WORLDS, first_seed=FIRST_SEED)
    pretrain_transformer(TransformerPretraining(minutes=transformer_minutes, seed=seed), vae, worlds, output)
    training = output / "training"
    shutil.copy(work / "vae" / "training_log.jsonl", training / "vae.jsonl")
    for name in ("vae", "transformer"):
        plot_curves(training / f"{name}.jsonl", training / f"{name}.png")
    return output
