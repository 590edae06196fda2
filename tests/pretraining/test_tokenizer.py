"""The tiny tokenizer: one piece per caption word, single letters for other words, lossless for ASCII."""

import string

import pytest

from fourdnex.datasets.worlds import HELD_OUT_SEEDS
from fourdnex.datasets.worlds.scenes import sample_world
from fourdnex.model.conditioning import styled_prompt
from fourdnex.pretraining.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(300)


def test_unseen_captions_survive_a_round_trip(tokenizer):
    for seed in HELD_OUT_SEEDS[:20]:
        prompt = styled_prompt(sample_world(seed).caption)
        assert tokenizer.decode(tokenizer(prompt).input_ids, skip_special_tokens=True) == prompt


def test_captions_have_one_piece_per_word_and_punctuation_mark(tokenizer):
    prompt = "In a room with white walls and a grey floor, a red box rests. The camera pans right. POINTMAP_STYLE."
    ids = tokenizer(prompt).input_ids
    words, marks = len(prompt.split(" ")), prompt.count(",") + prompt.count(".")
    assert len(ids) == words + marks + 1
    assert ids[-1] == tokenizer.eos_token_id


def test_every_ascii_word_survives_a_round_trip(tokenizer):
    characters = [c for c in string.printable if not c.isspace()]
    for word in [*characters, "Zebra-42%", "photograph", "x_9!", "".join(characters)]:
        ids = tokenizer(word).input_ids
        assert tokenizer.unk_token_id not in ids, word
        assert tokenizer.decode(ids, skip_special_tokens=True) == word


def test_characters_other_than_ascii_are_unknown(tokenizer):
    assert tokenizer.unk_token_id in tokenizer("é").input_ids


def test_the_same_worlds_give_the_same_tokenizer(tokenizer):
    assert build_tokenizer(300).get_vocab() == tokenizer.get_vocab()
    assert max(tokenizer.get_vocab().values()) + 1 == len(tokenizer)
