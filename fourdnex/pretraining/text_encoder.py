"""Pretraining of the tiny text encoder: what captions mean, before any image is seen.

A large video model's text encoder has read the web before the model learns to move images. The tiny one reads the
captions of worlds: every token learns to carry how the camera moves, and the tokens of an object's phrase how that
object moves, as numbers in the first channels of their embedding. It is frozen ever after. A transformer that has to
learn words and motion at once learns neither in the steps that two cores allow.
"""

from __future__ import annotations

import copy
import json
import math
import string
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from fourdnex.datasets.worlds import HELD_OUT_SEEDS, training_seeds
from fourdnex.datasets.worlds.scenes import CameraMotion, World, WorldObject, sample_world
from fourdnex.model.conditioning import styled_prompt
from fourdnex.pretraining.tokenizer import with_positions_suffix

CAMERA_CHANNELS, THING_CHANNELS = 5, 7
GAIN = 1.5
"""What a motion of usual size is in its channel, where an embedding's channels have root mean square 1."""
MOTION_WORDS = frozenset(
    "rests slides bounces spins circles left right away closer and slowly steadily quickly".split()
)
# Motions of usual size over a clip: the camera's turns in radians and ways in distances to the scene's middle, objects'
# travel in widths of themselves, their arcs and turns.
_RADIANS = {"pan": 0.22, "orbit": 0.28}
_DISTANCES = 0.18
_WIDTHS = 0.8
_ARCS = 1.75
_TURNS = 0.28


@dataclass(frozen=True, kw_only=True)
class TextPretraining:
    """Settings of the text encoder's pretraining."""

    steps: int = 2500
    batch: int = 64
    rate: float = 3e-3
    num_worlds: int = 12_000
    first_seed: int = 10_000
    sentence_share: float = 0.15
    """Share of captions that are cut down to the camera's sentence."""
    unknown_word_share: float = 0.3
    """Share of captions in which words that do not tell of motion are unknown ones, spelled letter by letter."""
    seed: int = 0


def new_text_encoder(tokenizer: T5Tokenizer) -> UMT5EncoderModel:
    """An encoder of 64 channels and two layers with random weights."""
    size = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    return UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), dropout_rate=0.0, **size))


def pretrain_text(
    config: TextPretraining, tokenizer: T5Tokenizer, log: Path, *, start: UMT5EncoderModel | None = None
) -> UMT5EncoderModel:
    """Train an encoder; `log` gets a JSON line every 250 steps, with the errors on held-out captions.

    It begins with random weights and a new log, or goes on with the weights of `start` and its log: then captions of
    worlds keep the meaning they have to `start` in all channels, so that a transformer that was trained with it can go
    on with the new one.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    encoder = new_text_encoder(tokenizer) if start is None else copy.deepcopy(start).train().requires_grad_(True)
    encoder.resize_token_embeddings(len(tokenizer))  # `start` may lack words that were added since
    captions = _Captions(config, tokenizer, training_seeds(config.first_seed, config.num_worlds))
    held_out = _Captions(config, tokenizer, HELD_OUT_SEEDS)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=config.rate, betas=(0.9, 0.98), weight_decay=0.01)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w" if start is None else "a") as file:
        file.write(json.dumps({"config": asdict(config)}) + "\n")
        for step in range(config.steps):
            factor = min(1.0, (step + 1) / 100) * max(0.02, 0.5 * (1 + math.cos(math.pi * step / config.steps)))
            optimizer.param_groups[0]["lr"] = config.rate * factor
            camera, things = _errors(encoder, captions.batch(rng, config.batch))
            loss = camera + things
            if start is not None:
                loss = loss + _departure(encoder, start, captions.batch(rng, config.batch, changed=False))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            if (step + 1) % 250 == 0 or step + 1 == config.steps:
                line = {"step": step + 1, "camera_loss": camera.item(), "things_loss": things.item()}
                line |= _measured(encoder, held_out)
                file.write(json.dumps({key: round(value, 5) for key, value in line.items()}) + "\n")
                file.flush()
    return encoder.eval()


def camera_motion(camera: CameraMotion) -> np.ndarray:
    """[5] float32: stands still; signed dolly, truck, pan, orbit, 1 for a usual amount."""
    code = np.zeros(CAMERA_CHANNELS, np.float32)
    if camera.motion == "still":
        code[0] = 1.0
    else:
        usual = _RADIANS.get(camera.motion, _DISTANCES * camera.distance)
        code[1 + ("dolly", "truck", "pan", "orbit").index(camera.motion)] = camera.amount / usual
    return code


def thing_motion(thing: WorldObject) -> np.ndarray:
    """[7] float32: moves; slides across, ahead; bounces across, bounces; spins; circles. 1 for a usual amount."""
    code = np.zeros(THING_CHANNELS, np.float32)
    code[0] = thing.moves
    if thing.motion == "slide":
        code[1], code[2] = thing.travel[[0, 2]] / (2 * thing.half.max() * _WIDTHS)
    elif thing.motion == "bounce":
        code[3:5] = thing.hops / _ARCS * np.sign(thing.travel[0]), thing.hops / _ARCS
    elif thing.motion == "spin":
        code[5] = thing.turns / _TURNS
    elif thing.motion == "orbit":
        code[6] = thing.turns / _TURNS
    return code


@dataclass(frozen=True, eq=False)
class _Batch:
    ids: torch.Tensor  # [B, N] tokens
    counts: torch.Tensor  # [B, N] 1 where there is one
    camera: torch.Tensor  # [B, 5]
    things: torch.Tensor  # [B, N, 7]
    in_phrase: torch.Tensor  # [B, N] 1 where `things` counts


class _Captions:
    """Tokenised captions of worlds, and what each token is to carry."""

    def __init__(self, config: TextPretraining, tokenizer: T5Tokenizer, seeds: Iterable[int]):
        self.config = config
        rng = np.random.default_rng(config.seed)
        worlds = [sample_world(seed) for seed in seeds]
        self.known = [_Caption.read(world.caption, tokenizer) for world in worlds]
        self.strange = [_Caption.read(_with_unknown_words(world.caption, rng), tokenizer) for world in worlds]
        self.camera = torch.tensor(np.stack([camera_motion(world.camera) for world in worlds]))
        self.things = [_thing_codes(world) for world in worlds]

    def batch(self, rng: np.random.Generator, size: int, *, changed: bool = True) -> _Batch:
        """Captions as the base is told them; `changed`: also in 6D's style, some cut, some with strange words."""
        rows = []
        chosen = rng.choice(len(self.known), size, replace=size > len(self.known))
        for i in chosen:
            caption = self.strange[i] if changed and rng.random() < self.config.unknown_word_share else self.known[i]
            tokens = caption.forms[rng.integers(len(caption.forms) if changed else 2)]
            phrases = caption.phrases + [0] * (len(tokens) - len(caption.phrases))
            start = caption.camera_sentence if changed and rng.random() < self.config.sentence_share else 0
            rows.append((tokens[start:], phrases[start:]))
        length = max(len(tokens) for tokens, _ in rows)
        ids, phrase = torch.zeros(2, size, length, dtype=torch.long)
        counts = torch.zeros(size, length)
        for row, (tokens, phrases) in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            phrase[row, : len(tokens)] = torch.tensor(phrases)
            counts[row, : len(tokens)] = 1
        # A strange caption may have fewer phrases than there are objects, never more.
        things = torch.stack([self.things[i][phrase[row]] for row, i in enumerate(chosen)])
        return _Batch(ids, counts, self.camera[chosen], things, (phrase > 0).float())


@dataclass(frozen=True)
class _Caption:
    forms: tuple[list[int], list[int], list[int]]
    """Tokens as it is, of a coordinate clip's prompt, of a 6D prompt."""
    phrases: list[int]
    """For each token as it is the object whose phrase it is in, counted from 1; 0 for the place and the camera."""
    camera_sentence: int
    """Where it begins."""

    @classmethod
    def read(cls, caption: str, tokenizer: T5Tokenizer) -> _Caption:
        plain = tokenizer(caption).input_ids
        comma, stop = tokenizer.convert_tokens_to_ids([",", "."])
        return cls(
            forms=(plain, *(tokenizer(form(caption)).input_ids for form in (with_positions_suffix, styled_prompt))),
            phrases=_phrases(plain, comma, stop),
            camera_sentence=plain.index(stop) + 1,
        )


def _with_unknown_words(caption: str, rng: np.random.Generator) -> str:
    """The caption with half of its words unknown, but for those of motion; or a strange sentence and the camera's."""
    scene, camera = caption.split(". The camera ")
    if rng.random() < 0.3:
        return f"{' '.join(_unknown_word(rng) for _ in range(rng.integers(1, 9)))}. The camera {camera}"
    words = []
    for word in scene.split(" "):
        mark = "," if word.endswith(",") else ""
        kept = word.removesuffix(",") in MOTION_WORDS or rng.random() < 0.5
        words.append(word if kept else _unknown_word(rng) + mark)
    return f"{' '.join(words)}. The camera {camera}"


def _unknown_word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(string.ascii_lowercase), rng.integers(1, 9)))


def _phrases(tokens: list[int], comma: int, stop: int) -> list[int]:
    found: list[int] = []
    current = 0
    for position, token in enumerate(tokens):
        if token == stop:
            return found + [0] * (len(tokens) - position)
        found.append(current)
        current += token == comma
    return found


def _thing_codes(world: World) -> torch.Tensor:
    """[1 + N, 7]: zeros, then the objects' motions."""
    return torch.tensor(np.stack([np.zeros(THING_CHANNELS, np.float32), *map(thing_motion, world.objects)]))


def _errors(encoder: UMT5EncoderModel, batch: _Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared errors of the camera's and the objects' motions."""
    embedded = encoder(batch.ids, batch.counts.long()).last_hidden_state / GAIN
    camera = (embedded[..., :CAMERA_CHANNELS] - batch.camera[:, None]).square().mean(dim=-1)
    things = (embedded[..., CAMERA_CHANNELS : CAMERA_CHANNELS + THING_CHANNELS] - batch.things).square().mean(dim=-1)
    return _mean(camera, batch.counts), _mean(things, batch.in_phrase)


def _departure(encoder: UMT5EncoderModel, start: UMT5EncoderModel, batch: _Batch) -> torch.Tensor:
    """Mean squared difference of all channels from what `start` makes of the captions."""
    with torch.no_grad():
        wanted = start(batch.ids, batch.counts.long()).last_hidden_state
    found = encoder(batch.ids, batch.counts.long()).last_hidden_state
    return _mean((found - wanted).square().mean(dim=-1), batch.counts)


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (values * weights).sum() / weights.sum()


@torch.no_grad()
def _measured(encoder: UMT5EncoderModel, held_out: _Captions) -> dict[str, float]:
    """Errors on held-out captions as they are, in squares of a motion of usual size."""
    camera, things = _errors(encoder, held_out.batch(np.random.default_rng(0), 256, changed=False))
    return {"held_out_camera_loss": camera.item(), "held_out_things_loss": things.item()}
