"""The six scenario tags of a clip: given by its data set, by words of its caption, or by simple rules on its scores.

| tag | given tags | words of the caption | else |
| --- | --- | --- | --- |
| indoor, outdoor | indoor, outdoor | room, ...; street, ... | outdoor: sky, or a large ratio of far to near depth |
| close-range, far-range | close, far | close-up, ...; landscape, ... | ratio of far to near depth, small or large |
| high-speed | fast | fast, quickly, racing, ... | optical flow per second |
| human-centric | human, person | man, people, ... | never |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.curation.set_rules import TAGS, TagRules

if TYPE_CHECKING:
    import pandas as pd

GIVEN = {
    "indoor": ("indoor",),
    "outdoor": ("outdoor",),
    "close-range": ("close-range", "close"),
    "far-range": ("far-range", "far"),
    "high-speed": ("high-speed", "fast"),
    "human-centric": ("human-centric", "human", "person", "people"),
}
"""Tag -> tags of the manifest that mean it."""
WORDS = {
    "indoor": "indoor indoors room rooms kitchen office bedroom bathroom corridor hallway warehouse studio ceiling "
    "sofa museum classroom",
    "outdoor": "outdoor outdoors street streets sky road forest mountain mountains beach garden park sea ocean river "
    "lawn field desert courtyard landscape terrain hill hills trees",
    "close-range": "close-up closeup macro tabletop",
    "far-range": "landscape panorama panoramic aerial skyline mountain mountains horizon",
    "high-speed": "fast quickly rapidly racing speeding sprinting rushes rushing",
    "human-centric": "man men woman women person people child children boy boys girl girls player players dancer "
    "dancers crowd pedestrian pedestrians worker workers human humans face faces",
}
"""Tag -> words of a caption that mean it."""
SEPARATOR = "\n"
"""Between the tags of one clip."""
EXCLUSIVE = (("indoor", "outdoor"), ("close-range", "far-range"))
"""Tags of which at most one holds."""


def scenario_tags(given: pd.Series, captions: pd.Series, table: pd.DataFrame, rules: TagRules) -> pd.DataFrame:
    """One column of booleans per tag.

    Args:
        given: tags of every clip in the manifest, joined by `SEPARATOR`.
        captions: of every clip.
        table: columns sky_share, depth_spread, flow and fps; NaN where unknown.
        rules: thresholds for clips that neither tags nor captions describe.
    """
    import pandas as pd

    by_given = _from_given(given)
    by_words = _from_words(captions)
    spread, sky = table["depth_spread"].to_numpy(), table["sky_share"].to_numpy()
    known = np.isfinite(spread) & np.isfinite(sky)
    outdoor = (sky >= rules.min_sky_share) | (spread >= rules.min_outdoor_spread)
    speed = table["flow"].to_numpy() / 96 * table["fps"].to_numpy()
    by_scores = {
        "indoor": known & ~outdoor,
        "outdoor": known & outdoor,
        "close-range": spread <= rules.max_close_spread,
        "far-range": spread >= rules.min_far_spread,
        "high-speed": speed >= rules.min_speed,
        "human-centric": np.zeros(len(table), bool),
    }
    result = {}
    for tag in TAGS:
        group = next((pair for pair in EXCLUSIVE if tag in pair), (tag,))
        given_any = np.logical_or.reduce([by_given[each] for each in group])
        words_any = np.logical_or.reduce([by_words[each] for each in group])
        words = by_words[tag] & ~_other_words(tag, group, by_words)
        words_any &= ~np.logical_and.reduce([by_words[each] for each in group]) | (len(group) == 1)
        result[tag] = np.where(given_any, by_given[tag], np.where(words_any, words, by_scores[tag]))
    return pd.DataFrame(result, index=table.index)


def tag_lists(tags: pd.DataFrame) -> list[list[str]]:
    """The tags of every clip as lists, from columns of booleans."""
    values = tags.to_numpy(bool)
    codes = values @ (1 << np.arange(values.shape[1]))
    combinations = {
        int(code): [name for bit, name in enumerate(tags.columns) if int(code) >> bit & 1] for code in np.unique(codes)
    }
    return [combinations[code] for code in codes.tolist()]


def _from_given(given: pd.Series) -> dict[str, np.ndarray]:
    """Tag -> whether each clip's tags in the manifest mean it. Equal tags are looked up once."""
    codes, distinct = given.factorize()
    sets = [set(str(tags).split(SEPARATOR)) for tags in distinct]
    return {name: np.array([bool(tags & set(GIVEN[name])) for tags in sets] + [False], bool)[codes] for name in TAGS}


def _from_words(captions: pd.Series) -> dict[str, np.ndarray]:
    """Tag -> whether the words of each caption mean it. Equal captions are searched once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes, distinct = captions.factorize()
    texts = pa.array(distinct.astype(object), pa.large_string(), from_pandas=True)
    found = {}
    for tag, words in WORDS.items():
        pattern = rf"\b({'|'.join(words.split())})\b"
        hits = pc.match_substring_regex(texts, pattern, ignore_case=True).to_numpy(zero_copy_only=False)
        found[tag] = np.append(hits.astype(bool), False)[codes]  # code -1: no caption
    return found


def _other_words(tag: str, group: Sequence[str], by_words: dict[str, np.ndarray]) -> np.ndarray:
    """Whether the caption also means another tag of an exclusive group: then it decides nothing."""
    others = [by_words[each] for each in group if each != tag]
    return np.logical_or.reduce(others) if others else np.zeros(len(by_words[tag]), bool)
