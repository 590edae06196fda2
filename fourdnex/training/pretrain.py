"""How `pretrained/fourdnex-tiny` is made: the VAE first, then the transformer with its encoders.

```
fourdnex pretrain --output pretrained/fourdnex-tiny --work workspace/pretrain
fourdnex pretrain --output workspace/longer --work workspace/pretrain --start pretrained/fourdnex-tiny
```
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from fourdnex.files import sha256_file

if TYPE_CHECKING:
    from fourdnex.training.pretrain_vae import VaePretraining

NUM_WORLDS, FIRST_SEED = 1600, 10_000
"""Worlds that the transformer learns from, and their first seed."""


def pretrain_base(
    output: Path,
    work: Path,
    *,
    frame_minutes: float,
    clip_minutes: float,
    transformer_minutes: float,
    start: Path | None = None,
    seed: int = 0,
) -> Path:
    """Train a tiny base from nothing and write it to `output` with its logs and curves in `output/training`.

    A VAE that is already in `work/vae` is taken as it is, and so are worlds encoded by it. From a base in folder
    `start` the VAE is taken, and transformer and encoders are trained further.

    Raises:
        ValueError: if a loss is not finite.
    """
    from diffusers import AutoencoderKLWan

    from fourdnex.training.encoded_worlds import encode_worlds
    from fourdnex.training.pictures import plot_curves
    from fourdnex.training.pretrain_transformer import TransformerPretraining, pretrain_transformer
    from fourdnex.training.pretrain_vae import VaePretraining

    if start is None:
        folder, log = work / "vae", work / "vae" / "training_log.jsonl"
        _make_vae(VaePretraining(frame_minutes=frame_minutes, clip_minutes=clip_minutes, seed=seed), folder)
    else:
        folder, log = start / "vae", start / "training" / "vae.jsonl"
    vae = AutoencoderKLWan.from_pretrained(folder).eval().requires_grad_(False)
    digest = sha256_file(folder / "diffusion_pytorch_model.safetensors")[:12]
    worlds = work / f"worlds-{digest}"
    encode_worlds(folder, worlds, num_worlds=NUM_WORLDS, first_seed=FIRST_SEED)
    settings = TransformerPretraining(minutes=transformer_minutes, seed=seed)
    pretrain_transformer(settings, vae, worlds, output, start=start)
    training = output / "training"
    shutil.copy(log, training / "vae.jsonl")
    for name in ("vae", "transformer"):
        plot_curves(training / f"{name}.jsonl", training / f"{name}.png")
    return output


def _make_vae(settings: VaePretraining, folder: Path) -> None:
    from diffusers import AutoencoderKLWan

    from fourdnex.training.encoded_worlds import set_latent_moments
    from fourdnex.training.pretrain_vae import pretrain_vae

    if (folder / "finished").exists():
        return
    pretrain_vae(settings, folder)
    vae = AutoencoderKLWan.from_pretrained(folder).eval()
    set_latent_moments(vae)
    vae.save_pretrained(folder)
    (folder / "finished").touch()
