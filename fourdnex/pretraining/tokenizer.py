"""The tokenizer of the tiny base: one piece per word of world captions, single characters for all other words."""

from __future__ import annotations

import math
import string
from collections import Counter

from transformers import T5Tokenizer

from fourdnex.datasets.worlds import training_seeds
from fourdnex.datasets.worlds.scenes import sample_world
from fourdnex.model.conditioning import PROMPT_SUFFIX

POSITIONS_SUFFIX = " POSITIONS."
"""Suffix of prompts of coordinate clips. The suffix of 6D prompts is not seen in pretraining, as with any base."""
_SPACE = "\u2581"  # the leading space of a word in sentencepiece


def build_tokenizer(num_captions: int = 3000) -> T5Tokenizer:
    """A unigram T5 tokenizer whose pieces are the words of `num_captions` captions of worlds, and ASCII characters."""
    counts: Counter[str] = Counter()
    for seed in training_seeds(0, num_captions):
        words = (sample_world(seed).caption + POSITIONS_SUFFIX).split(" ")
        counts.update(piece for word in words for piece in _pieces(word))
    total = sum(counts.values())
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(piece, math.log(count / total)) for piece, count in sorted(counts.items())]
    characters = sorted((set(string.printable) - set(string.whitespace) | {_SPACE}) - set(counts))
    vocabulary += [(character, -20.0) for character in characters]
    vocabulary += [(piece, vocabulary[-1][1]) for piece in _pieces(PROMPT_SUFFIX.strip()) if piece not in counts]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0)


def with_positions_suffix(caption: str) -> str:
    """The prompt of a coordinate clip."""
    return caption.strip() + POSITIONS_SUFFIX


def _pieces(word: str) -> list[str]:
    """A word, and the punctuation mark at its end."""
    mark = word[-1:] if word.endswith((".", ",")) else ""
    return [_SPACE + word.removesuffix(mark)] + ([mark] if mark else [])
