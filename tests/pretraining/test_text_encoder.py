"""The tiny text encoder learns the motions that captions describe."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import T5Tokenizer, UMT5EncoderModel

from fourdnex.datasets.worlds import training_seeds
from fourdnex.datasets.worlds.scenes import sample_world
from fourdnex.model.conditioning import styled_prompt
from fourdnex.model.presets import get_preset
from fourdnex.pretraining.text_encoder import (
    GAIN,
    TextEncoderPretraining,
    camera_code,
    object_code,
    pretrain_text_encoder,
)
from fourdnex.pretraining.tokenizer import build_tokenizer

WORDS = {"in": (1, 1), "out": (1, -1), "trucks right": (2, 1), "trucks left": (2, -1), "pans right": (3, 1)}


def test_motion_codes_agree_with_captions():
    worlds = [sample_world(seed) for seed in training_seeds(0, 200)]
    seen = set()
    for world in worlds:
        sentence = world.caption.rsplit("The camera ", 1)[1]
        code = camera_code(world.camera)
        assert (np.count_nonzero(code) == 1) and (code[0] == 1) == (sentence == "stays still.")
        for words, (channel, sign) in WORDS.items():
            if f" {words} " in f" {sentence}":
                assert np.sign(code[channel]) == sign, sentence
                seen.add(words)
        for each in world.objects:
            assert (object_code(each)[0] == 1) == each.moves
            assert np.abs(object_code(each)).max() < 4
    assert seen == set(WORDS)


def test_a_few_steps_learn_most_motions(tmp_path):
    log = tmp_path / "training" / "text.jsonl"
    tokenizer = build_tokenizer(300)
    settings = TextEncoderPretraining(steps=300, batch_size=32, num_worlds=600)
    encoder = pretrain_text_encoder(settings, tokenizer, log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[0]["config"]["steps"] == 300
    assert lines[-1]["step"] == 300
    cameras = np.stack([camera_code(sample_world(seed).camera) for seed in training_seeds(0, 200)])
    assert lines[-1]["held_out_camera_loss"] < 0.5 * np.square(cameras).mean()

    def embedded(caption: str) -> torch.Tensor:
        tokens = tokenizer(caption, return_tensors="pt").input_ids
        with torch.no_grad():
            return encoder(tokens).last_hidden_state[0, :, 3].mean()  # the channel of pans

    left, right = (embedded(f"Outdoors, a red box rests. The camera pans {way} quickly.") for way in ("left", "right"))
    assert right - left > 0.5

    again = pretrain_text_encoder(replace(settings, steps=20), tokenizer, log, start=encoder)
    tokens = tokenizer(sample_world(5).caption, return_tensors="pt").input_ids
    with torch.no_grad():
        before, after = (model(tokens).last_hidden_state for model in (encoder, again))
    assert not torch.equal(before, after)
    assert (after - before).square().mean() < 0.05 * before.square().mean()
    carried = [json.loads(line) for line in log.read_text().splitlines()]
    assert carried[: len(lines)] == lines
    assert carried[-1]["step"] == 20


@pytest.mark.parametrize(
    ("prompt", "channel", "sign"),
    [
        ("A dog sleeps on a sofa. The camera pans left quickly.", 3, -1),
        ("Waves roll onto a beach at sunset. The camera trucks right steadily.", 2, 1),
        ("Two people talk, one of them laughs. The camera dollies in slowly.", 1, 1),
        ("The camera orbits left slowly.", 4, 1),
    ],
)
def test_the_shipped_encoder_responds_to_camera_motion_among_unknown_words(prompt, channel, sign):
    folder = get_preset("tiny").location
    tokenizer = T5Tokenizer.from_pretrained(folder, subfolder="tokenizer")
    encoder = UMT5EncoderModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32).eval()
    tokens = tokenizer(styled_prompt(prompt), return_tensors="pt").input_ids
    with torch.no_grad():
        embedded = encoder(tokens).last_hidden_state[0, :, :5].mean(dim=0) / GAIN
    assert int(embedded.abs().argmax()) == channel
    assert sign * embedded[channel] > 0.3
