"""How `pretrained/fourdnex-tiny` is made: VAE and text encoder first, then the transformer with its image encoder.

```
fourdnex pretrain --output pretrained/fourdnex-tiny --work workspace/pretrain
fourdnex pretrain --output workspace/longer --work workspace/pretrain --start pretrained/fourdnex-tiny
```
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fourdnex.files import copy_unless_same, sha256_file

if TYPE_CHECKING:
    from fourdnex.training.pretrain_vae import VaePretraining

NUM_WORLDS, FIRST_SEED = 3600, 10_000
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

    A VAE that is already in `work/vae` is taken as it is, and so are worlds encoded by it and a text encoder in
    `work/text`. From a base in folder `start` VAE and text encoder are taken, and the rest is trained further.

    Raises:
        ValueError: if a loss is not finite.
    """
    import torch
    from diffusers import AutoencoderKLWan
    from transformers import UMT5EncoderModel

    from fourdnex.training.encoded_worlds import encode_worlds
    from fourdnex.training.pictures import plot_curves
    from fourdnex.training.pretrain_transformer import TransformerPretraining, pretrain_transformer
    from fourdnex.training.pretrain_vae import VaePretraining

    if start is None:
        folder, log = work / "vae", work / "vae" / "training_log.jsonl"
        _make_vae(VaePretraining(frame_minutes=frame_minutes, clip_minutes=clip_minutes, seed=seed), folder)
        text_folder, text_log = work / "text", work / "text" / "training_log.jsonl"
        _make_text_encoder(text_folder, seed)
    else:
        folder, log = start / "vae", start / "training" / "vae.jsonl"
        text_folder, text_log = start / "text_encoder", start / "training" / "text.jsonl"
    vae = AutoencoderKLWan.from_pretrained(folder).eval().requires_grad_(False)
    digest = sha256_file(folder / "diffusion_pytorch_model.safetensors")[:12]
    worlds = work / f"worlds-{digest}"
    encode_worlds(folder, worlds, num_worlds=NUM_WORLDS, first_seed=FIRST_SEED)
    settings = TransformerPretraining(minutes=transformer_minutes, seed=seed)
    text = UMT5EncoderModel.from_pretrained(text_folder, dtype=torch.float32).eval()
    pretrain_transformer(settings, vae, text, worlds, output, start=start)
    training = output / "training"
    copy_unless_same(log, training / "vae.jsonl")
    copy_unless_same(text_log, training / "text.jsonl")
    for name in ("vae", "text", "transformer"):
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


def _make_text_encoder(folder: Path, seed: int) -> None:
    from fourdnex.training.pretrain_text import TextPretraining, pretrain_text
    from fourdnex.training.text import build_tokenizer

    if (folder / "finished").exists():
        return
    log = folder / "training_log.jsonl"
    pretrain_text(TextPretraining(seed=seed), build_tokenizer(), log).save_pretrained(folder)
    (folder / "finished").touch()
