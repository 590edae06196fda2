"""Pretraining of `pretrained/fourdnex-tiny`: VAE and text encoder first, then the transformer with its image encoder.

```
fourdnex pretrain --output pretrained/fourdnex-tiny --work workspace/pretrain
fourdnex pretrain --output workspace/longer --work workspace/pretrain --start pretrained/fourdnex-tiny
fourdnex pretrain --output workspace/sharper --work workspace/pretrain --start pretrained/fourdnex-tiny \\
    --transformer-minutes 0 --decoder-minutes 60
```
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from fourdnex.datasets.worlds.families import PRIMITIVES, TRAINING_FAMILIES
from fourdnex.datasets.worlds.mix import WorldMix
from fourdnex.io.files import check_replaceable_folder, copy_unless_same
from fourdnex.model.option_types import Precision

if TYPE_CHECKING:
    from fourdnex.pretraining.vae import VaePretraining

NUM_WORLDS, FIRST_SEED = 4000, 10_000
"""Number of worlds that the transformer is trained on, and the first seed."""
PRIMITIVES_SHARE = 0.4
"""Share of these worlds of the family `primitives`; the other families have equal shares of the rest."""
SIZE_SHARES = {(64, 96): 0.7, (96, 64): 0.15, (80, 80): 0.15}
"""(height, width) -> share of these worlds."""


def pretrain_base(
    output: Path,
    work: Path,
    *,
    frame_minutes: float,
    clip_minutes: float,
    transformer_minutes: float,
    decoder_minutes: float = 0.0,
    start: Path | None = None,
    precision: Precision = "fp32",
    seed: int = 0,
) -> Path:
    """Train a tiny base and write it to `output`, with its logs and curves in `output/training`.

    Args:
        output: folder of the base.
        work: folder of intermediate results. A VAE in `work/vae`, worlds encoded by it and a text encoder in
            `work/text` are reused.
        frame_minutes: time of the VAE on single frames.
        clip_minutes: time of the VAE on clips.
        transformer_minutes: time of the transformer and its image encoder.
        decoder_minutes: time of the further training of the VAE's decoder, at the end.
        start: folder of a base whose VAE and text encoder are reused, and whose transformer and image encoder, or VAE
            decoder, or both, are trained further; None trains a new base.
        precision: precision of the transformer, and of the VAE when it encodes worlds.
        seed: seed of all weights and batches.

    Raises:
        FileExistsError: `output` contains anything else than a base or its log.
        ValueError: a loss is not finite, or there is nothing to train.
    """
    check_replaceable_folder(output, "a base", marker="model_index.json", leftovers=("training",))
    import torch
    from diffusers import AutoencoderKLWan
    from transformers import UMT5EncoderModel

    from fourdnex.pretraining.encoded_worlds import encode_worlds, encoder_digest, load_worlds
    from fourdnex.pretraining.transformer import TransformerPretraining, pretrain_transformer
    from fourdnex.pretraining.vae import DecoderPretraining, VaePretraining, pretrain_decoder
    from fourdnex.training.plots import plot_curves

    if transformer_minutes <= 0 and (start is None or decoder_minutes <= 0):
        raise ValueError(
            "transformer_minutes: expected more than 0 (or with --start, decoder_minutes more than 0), "
            f"got {transformer_minutes}"
        )
    if start is None:
        folder, log = work / "vae", work / "vae" / "training_log.jsonl"
        _ensure_vae(VaePretraining(frame_minutes=frame_minutes, clip_minutes=clip_minutes, seed=seed), folder)
        text_folder, text_log = work / "text", work / "text" / "training_log.jsonl"
        _ensure_text_encoder(text_folder, seed)
    else:
        folder, log = start / "vae", start / "training" / "vae.jsonl"
        text_folder, text_log = start / "text_encoder", start / "training" / "text.jsonl"
    vae = AutoencoderKLWan.from_pretrained(folder).eval().requires_grad_(False)
    worlds = work / f"worlds-{encoder_digest(vae)}"
    encode_worlds(
        folder, worlds, num_worlds=NUM_WORLDS, first_seed=FIRST_SEED, mix=pretraining_mix(), precision=precision
    )
    training = output / "training"
    training.mkdir(parents=True, exist_ok=True)
    if transformer_minutes > 0 or start is None:
        settings = TransformerPretraining(minutes=transformer_minutes, precision=precision, seed=seed)
        text = UMT5EncoderModel.from_pretrained(text_folder, dtype=torch.float32).eval()
        pretrain_transformer(settings, vae, text, worlds, output, start=start)
    elif start.resolve() != output.resolve():
        shutil.copytree(start, output, dirs_exist_ok=True)
    for source, name in ((log, "vae.jsonl"), (text_log, "text.jsonl")):
        if source.exists():
            copy_unless_same(source, training / name)
        else:
            (training / name).unlink(missing_ok=True)  # of a former base in `output`
    if decoder_minutes > 0:
        decoder_settings = DecoderPretraining(minutes=decoder_minutes, seed=seed)
        pretrain_decoder(decoder_settings, vae.float(), load_worlds(worlds)[0], output / "vae", training / "vae.jsonl")
        vae.half().save_pretrained(output / "vae")
    for log in training.glob("*.jsonl"):
        plot_curves(log, log.with_suffix(".png"))
    return output


def pretraining_mix() -> WorldMix:
    """Families and sizes of the worlds that the transformer is trained on."""
    others = [family for family in TRAINING_FAMILIES if family != PRIMITIVES]
    shares = {PRIMITIVES: PRIMITIVES_SHARE} | {family: (1 - PRIMITIVES_SHARE) / len(others) for family in others}
    return WorldMix(families=shares, sizes=SIZE_SHARES)


def _ensure_vae(settings: VaePretraining, folder: Path) -> None:
    """Train a VAE and write it to `folder`, unless a finished one is there."""
    from diffusers import AutoencoderKLWan

    from fourdnex.pretraining.encoded_worlds import set_latent_moments
    from fourdnex.pretraining.vae import pretrain_vae

    if (folder / "finished").exists():
        return
    pretrain_vae(settings, folder)
    vae = AutoencoderKLWan.from_pretrained(folder).eval()
    set_latent_moments(vae)
    vae.save_pretrained(folder)
    (folder / "finished").touch()


def _ensure_text_encoder(folder: Path, seed: int) -> None:
    """Train a text encoder and write it to `folder`, unless a finished one is there."""
    from fourdnex.pretraining.text_encoder import TextEncoderPretraining, pretrain_text_encoder
    from fourdnex.pretraining.tokenizer import build_tokenizer

    if (folder / "finished").exists():
        return
    log = folder / "training_log.jsonl"
    encoder = pretrain_text_encoder(TextEncoderPretraining(seed=seed), build_tokenizer(), log)
    encoder.save_pretrained(folder)
    (folder / "finished").touch()
