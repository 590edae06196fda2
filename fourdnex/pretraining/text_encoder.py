"""Pretraining of the tiny text encoder: the meaning of captions, learned before any image is seen.

The text encoder of a large video model has been trained on the text of the web before the video model is trained. The
tiny one is trained on the captions of worlds: all tokens learn to carry the motion of the camera, and the tokens of an
object's phrase the motion of that object, as numbers in the first channels of their embeddings. Then it is frozen. A
transformer that has to learn words and motion at once learns neither in the number of steps that two cores allow.
"""

from __future__ import annotations

import copy
import string
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from fourdnex.datasets.worlds import HELD_OUT_SEEDS, training_seeds
from fourdnex.datasets.worlds.camera_motion import CameraMotion
from fourdnex.datasets.worlds.scenes import World, WorldObject, sample_world
from fourdnex.model.conditioning import styled_prompt
from fourdnex.pretraining.loop import JsonLines, Metrics, PretrainingLoop
from fourdnex.pretraining.tokenizer import with_positions_suffix

CAMERA_CHANNELS, OBJECT_CHANNELS = 5, 7
GAIN = 1.5
"""Value of a usual motion in its channel; the channels of an embedding have root mean square 1."""
MOTION_WORDS = frozenset(
    "rests slides bounces spins circles left right away closer and slowly steadily quickly".split()
)
# Usual motions over a clip.
_CAMERA_RADIANS = {"pan": 0.22, "orbit": 0.28}
_CAMERA_DISTANCES = 0.18  # travel in distances to the center of the scene
_OBJECT_WIDTHS = 0.8  # travel in widths of the object
_OBJECT_ARCS = 1.75
_OBJECT_TURNS = 0.28


@dataclass(frozen=True, kw_only=True)
class TextEncoderPretraining:
    """Settings of the text encoder's pretraining."""

    steps: int = 2500
    """Training steps."""
    batch_size: int = 64
    """Captions per step."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    warmup_steps: int = 100
    """Steps of the linear learning rate warmup."""
    num_worlds: int = 12_000
    """Worlds whose captions are trained on."""
    first_seed: int = 10_000
    """Seed of the first world."""
    sentence_share: float = 0.15
    """Share of captions that are reduced to the sentence about the camera."""
    unknown_word_share: float = 0.3
    """Share of captions in which words that do not describe motion are replaced by unknown ones, spelled in letters."""
    seed: int = 0
    """Seed of weights and batches."""


def new_text_encoder(tokenizer: T5Tokenizer) -> UMT5EncoderModel:
    """An encoder with 64 channels, two layers and random weights."""
    size = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    return UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), dropout_rate=0.0, **size))


def pretrain_text_encoder(
    config: TextEncoderPretraining, tokenizer: T5Tokenizer, log: Path, *, start: UMT5EncoderModel | None = None
) -> UMT5EncoderModel:
    """Train a text encoder.

    Args:
        config: the settings.
        tokenizer: tokenizer of the base.
        log: JSON-lines log with the errors on held-out captions, every 250 steps; appended to if `start` is given.
        start: encoder to train further. All channels of its embeddings of world captions are preserved, so that a
            transformer that was trained with `start` can be trained further with the new encoder. None starts from
            random weights.

    Raises:
        ValueError: the loss is not finite.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    encoder = new_text_encoder(tokenizer) if start is None else copy.deepcopy(start).train().requires_grad_(True)
    encoder.resize_token_embeddings(len(tokenizer))  # `start` may lack words that were added since
    captions = _Captions(config, tokenizer, training_seeds(config.first_seed, config.num_worlds))
    held_out = _Captions(config, tokenizer, HELD_OUT_SEEDS)
    lines = JsonLines.create(log) if start is None else JsonLines(log)
    lines.write({"config": asdict(config)})

    def objective(step: int) -> tuple[torch.Tensor, Metrics]:
        camera, objects = _motion_errors(encoder, captions.batch(rng, config.batch_size))
        loss = camera + objects
        if start is not None:
            loss = loss + _drift(encoder, start, captions.batch(rng, config.batch_size, augmented=False))
        return loss, {"camera_loss": camera.detach(), "objects_loss": objects.detach()}

    PretrainingLoop(
        model=encoder,
        optimizers=[
            torch.optim.AdamW(encoder.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        ],
        objective=objective,
        warmup_steps=config.warmup_steps,
        steps=config.steps,
        log=lines.write,
        log_every=250,
        log_values="last",
        extend_line=lambda step: _measure(encoder, held_out),
    ).run()
    return encoder.eval()


def camera_code(camera: CameraMotion) -> np.ndarray:
    """Code of a camera motion [5] float32: is static; signed dolly, truck, pan, orbit, in units of a usual motion."""
    code = np.zeros(CAMERA_CHANNELS, np.float32)
    if camera.motion == "still":
        code[0] = 1.0
    else:
        usual = _CAMERA_RADIANS.get(camera.motion, _CAMERA_DISTANCES * camera.distance)
        code[1 + ("dolly", "truck", "pan", "orbit").index(camera.motion)] = camera.amount / usual
    return code


def object_code(each: WorldObject) -> np.ndarray:
    """Code of an object's motion [7] float32, in units of a usual motion.

    Channels: moves; slides sideways, slides forward; bounces sideways, bounces; spins; circles.
    """
    code = np.zeros(OBJECT_CHANNELS, np.float32)
    code[0] = each.moves
    if each.motion == "slide":
        code[1], code[2] = each.travel[[0, 2]] / (2 * each.half.max() * _OBJECT_WIDTHS)
    elif each.motion == "bounce":
        code[3:5] = each.hops / _OBJECT_ARCS * np.sign(each.travel[0]), each.hops / _OBJECT_ARCS
    elif each.motion == "spin":
        code[5] = each.turns / _OBJECT_TURNS
    elif each.motion == "orbit":
        code[6] = each.turns / _OBJECT_TURNS
    return code


@dataclass(frozen=True, eq=False)
class _Batch:
    """Captions and the targets of their tokens."""

    ids: torch.Tensor  # [B, N] tokens
    mask: torch.Tensor  # [B, N] 1 where there is a token
    camera: torch.Tensor  # [B, 5]
    objects: torch.Tensor  # [B, N, 7]
    in_phrase: torch.Tensor  # [B, N] 1 where the token is in the phrase of an object


class _Captions:
    """Tokenized captions of worlds, and the codes that their tokens are trained to carry."""

    def __init__(self, config: TextEncoderPretraining, tokenizer: T5Tokenizer, seeds: Iterable[int]):
        self.config = config
        rng = np.random.default_rng(config.seed)
        worlds = [sample_world(seed) for seed in seeds]
        self.original = [_Caption.tokenize(world.caption, tokenizer) for world in worlds]
        self.unknown = [_Caption.tokenize(_with_unknown_words(world.caption, rng), tokenizer) for world in worlds]
        self.camera = torch.tensor(np.stack([camera_code(world.camera) for world in worlds]))
        self.objects = [_object_codes(world) for world in worlds]

    def batch(self, rng: np.random.Generator, size: int, *, augmented: bool = True) -> _Batch:
        """Random captions in the forms that the base is trained on.

        `augmented` also draws the form of 6D prompts, sentences about the camera alone, and unknown words.
        """
        rows = []
        chosen = rng.choice(len(self.original), size, replace=size > len(self.original))
        for i in chosen:
            has_unknown = augmented and rng.random() < self.config.unknown_word_share
            caption = self.unknown[i] if has_unknown else self.original[i]
            tokens = caption.forms[rng.integers(len(caption.forms) if augmented else 2)]
            phrases = caption.phrases + [0] * (len(tokens) - len(caption.phrases))
            start = caption.camera_sentence if augmented and rng.random() < self.config.sentence_share else 0
            rows.append((tokens[start:], phrases[start:]))
        length = max(len(tokens) for tokens, _ in rows)
        ids, phrase = torch.zeros(2, size, length, dtype=torch.long)
        mask = torch.zeros(size, length)
        for row, (tokens, phrases) in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            phrase[row, : len(tokens)] = torch.tensor(phrases)
            mask[row, : len(tokens)] = 1
        # A caption with unknown words may have fewer phrases than there are objects, never more.
        objects = torch.stack([self.objects[i][phrase[row]] for row, i in enumerate(chosen)])
        return _Batch(ids, mask, self.camera[chosen], objects, (phrase > 0).float())


@dataclass(frozen=True)
class _Caption:
    """A tokenized caption."""

    forms: tuple[list[int], list[int], list[int]]
    """Tokens of the caption, of the prompt of a coordinate clip, and of a 6D prompt."""
    phrases: list[int]
    """For each token of the caption, the object whose phrase it is in, from 1 on; 0 for the scene and the camera."""
    camera_sentence: int
    """Index of the first token of the sentence about the camera."""

    @classmethod
    def tokenize(cls, caption: str, tokenizer: T5Tokenizer) -> _Caption:
        """Tokenize a caption in all forms."""
        plain = tokenizer(caption).input_ids
        comma, stop = tokenizer.convert_tokens_to_ids([",", "."])
        return cls(
            forms=(plain, *(tokenizer(form(caption)).input_ids for form in (with_positions_suffix, styled_prompt))),
            phrases=_phrases(plain, comma, stop),
            camera_sentence=plain.index(stop) + 1,
        )


def _with_unknown_words(caption: str, rng: np.random.Generator) -> str:
    """Replace half of the words that do not describe motion, or the whole description of the scene, by random words."""
    scene, camera = caption.split(". The camera ")
    if rng.random() < 0.3:
        return f"{' '.join(_random_word(rng) for _ in range(rng.integers(1, 9)))}. The camera {camera}"
    words = []
    for word in scene.split(" "):
        comma = "," if word.endswith(",") else ""
        is_kept = word.removesuffix(",") in MOTION_WORDS or rng.random() < 0.5
        words.append(word if is_kept else _random_word(rng) + comma)
    return f"{' '.join(words)}. The camera {camera}"


def _random_word(rng: np.random.Generator) -> str:
    """A word of 1 to 8 random letters."""
    return "".join(rng.choice(list(string.ascii_lowercase), rng.integers(1, 9)))


def _phrases(tokens: list[int], comma: int, stop: int) -> list[int]:
    """Number of commas before each token of the first sentence, 0 after it: the index of the phrase."""
    found: list[int] = []
    current = 0
    for position, token in enumerate(tokens):
        if token == stop:
            return found + [0] * (len(tokens) - position)
        found.append(current)
        current += token == comma
    return found


def _object_codes(world: World) -> torch.Tensor:
    """[1 + N, 7]: zeros, then the codes of the N objects."""
    return torch.tensor(np.stack([np.zeros(OBJECT_CHANNELS, np.float32), *map(object_code, world.objects)]))


def _motion_errors(encoder: UMT5EncoderModel, batch: _Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared errors of the motions of the camera and of the objects."""
    embedded = encoder(batch.ids, batch.mask.long()).last_hidden_state / GAIN
    camera = (embedded[..., :CAMERA_CHANNELS] - batch.camera[:, None]).square().mean(dim=-1)
    objects = embedded[..., CAMERA_CHANNELS : CAMERA_CHANNELS + OBJECT_CHANNELS] - batch.objects
    return _weighted_mean(camera, batch.mask), _weighted_mean(objects.square().mean(dim=-1), batch.in_phrase)


def _drift(encoder: UMT5EncoderModel, start: UMT5EncoderModel, batch: _Batch) -> torch.Tensor:
    """Mean squared difference of all channels between the embeddings of `encoder` and of `start`."""
    with torch.no_grad():
        target = start(batch.ids, batch.mask.long()).last_hidden_state
    embedded = encoder(batch.ids, batch.mask.long()).last_hidden_state
    return _weighted_mean((embedded - target).square().mean(dim=-1), batch.mask)


def _weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of `values` with `weights` of the same shape."""
    return (values * weights).sum() / weights.sum()


@torch.no_grad()
def _measure(encoder: UMT5EncoderModel, held_out: _Captions) -> dict[str, float]:
    """Mean squared errors on held-out captions, where motions of usual size are 1."""
    camera, objects = _motion_errors(encoder, held_out.batch(np.random.default_rng(0), 256, augmented=False))
    return {"held_out_camera_loss": round(camera.item(), 5), "held_out_objects_loss": round(objects.item(), 5)}
