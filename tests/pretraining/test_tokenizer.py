"""The tiny tokenizer: one piece a caption word, and letters for every other word, so that no ASCII is lost."""

import string

import pytest

from fourdnex.datasets.worlds import HELD_OUT_SEEDS
from fourdnex.datasets.worlds.scenes import sample_world
from fourdnex.model.conditioning import styled_prompt
from fourdnex.pretraining.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(300)


def test_captions_it_never_saw_come_back_whole(tokenizer):
    for seed in HELD_OUT_SEEDS[:20]:
        prompt = styled_prompt(sample_world(seed).caption)
        assert tokenizer.decode(tokenizer(prompt).input_ids, skip_special_tokens=True) == prompt


def test_a_caption_costs_one_piece_a_word_and_a_mark(tokenizer):
    prompt = "In a room with white walls and a grey floor, a red box rests. The camera pans right. POINTMAP_STYLE."
    ids = tokenizer(prompt).input_ids
    words, marks = len(prompt.split(" ")), prompt.count(",") + prompt.count(".")
    assert len(ids) == words + marks + 1
    assert ids[-1] == tokenizer.eos_token_id


def test_every_ascii_word_is_read(tokenizer):
    characters = [c for c in string.printable if not c.isspace()]
    for word in [*characters, "Zebra-42%", "photograph", "x_9!", "".join(characters)]:
        ids = tokenizer(word).input_ids
        assert tokenizer.unk_token_id not in ids, word
        assert tokenizer.decode(ids, skip_special_tokens=True) == word


def test_what_is_not_ascii_is_unknown_and_says_so(tokenizer):
    assert tokenizer.unk_token_id in tokenizer("é").input_ids


def test_the_same_worlds_give_the_same_tokenizer(tokenizer):
    assert build_tokenizer(300).get_vocab() == tokenizer.get_vocab()
    assert max(tokenizer.get_vocab().values()) + 1 == len(tokenizer)
