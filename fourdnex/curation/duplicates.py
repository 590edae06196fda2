"""Groups of duplicates: clips whose fingerprints differ by few bits, found without comparing all pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fourdnex.curation.fingerprints import COLOR_CELLS, NUM_HASHES, SIZE
from fourdnex.curation.set_rules import DuplicateRules

_MAX_BUCKET = 64
"""Clips of one bucket that are compared with each other; in larger ones, each with as many that follow it."""


def duplicate_groups(fingerprints: Sequence[bytes | None], rules: DuplicateRules) -> np.ndarray:
    """Number of the duplicate group of every clip, [N]; -1 for clips without duplicates.

    Candidates share one of 12 bands of 16 bits of their perceptual hashes. A pair that differs by at most 11 bits
    always does; others are found with high probability.

    Args:
        fingerprints: see `fourdnex.curation.fingerprints`; None for a clip without one.
        rules: when two clips are duplicates.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(fingerprints)
    known = np.array([position for position, data in enumerate(fingerprints) if data is not None and len(data) == SIZE])
    groups = np.full(count, -1)
    if rules.max_distance is None or len(known) < 2:
        return groups
    data = np.frombuffer(b"".join(fingerprints[position] or b"" for position in known), np.uint8).reshape(-1, SIZE)
    first, second = _similar_pairs(data, rules)
    if not len(first):
        return groups
    links = coo_array((np.ones(len(first), np.int8), (known[first], known[second])), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    groups[:] = np.where(sizes[inverse] > 1, labels, -1)
    # Numbered by the first clip of each group, so that the numbers do not depend on the order of the search.
    members = groups >= 0
    _, firsts, renumbered = np.unique(groups[members], return_index=True, return_inverse=True)
    groups[members] = firsts.argsort().argsort()[renumbered]
    return groups


def _similar_pairs(
    data: np.ndarray,  # [N, SIZE] uint8
    rules: DuplicateRules,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of similar fingerprints, as two arrays of positions."""
    hashes = np.ascontiguousarray(data[:, : NUM_HASHES * 8])
    bands = hashes.view(np.uint16)  # [N, 12]
    words = hashes.view(np.uint64)  # [N, 3]
    colors = data[:, NUM_HASHES * 8 :].reshape(-1, COLOR_CELLS**2, 3)
    assert rules.max_distance is not None
    found = [(np.zeros(0, int), np.zeros(0, int))]
    by_words = np.lexsort((words[:, 2], words[:, 1], words[:, 0]))
    for band in range(bands.shape[1]):
        # Within a bucket, similar hashes are mostly neighbors in the order of the words.
        order = by_words[bands[by_words, band].argsort(kind="stable")]
        keys = bands[order, band]
        for offset in range(1, min(_MAX_BUCKET, len(order))):
            same = np.flatnonzero(keys[:-offset] == keys[offset:])
            if not len(same):
                break
            first, second = order[same], order[same + offset]
            distance = np.bitwise_count(words[first] ^ words[second]).sum(axis=1)
            near = distance <= rules.max_distance
            found.append((first[near], second[near]))
    pairs = np.unique(np.sort(np.concatenate([np.stack(pair, axis=1) for pair in found]), axis=1), axis=0)
    if len(pairs):
        pairs = pairs[_color_distance(colors, pairs) <= rules.max_color_distance]
    return pairs[:, 0], pairs[:, 1]


def _color_distance(
    colors: np.ndarray,  # [N, C, 3] uint8
    pairs: np.ndarray,  # [P, 2]
) -> np.ndarray:
    """Mean difference of the coarse colors of pairs, after subtracting each clip's mean brightness."""
    first, second = (colors[pairs[:, side]].astype(np.float32) for side in (0, 1))
    change = first - second
    change -= change.mean(axis=(1, 2), keepdims=True)
    return np.asarray(np.abs(change).mean(axis=(1, 2)))


def best_of_groups(groups: np.ndarray, quality: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Positions of the clip that stays for each clip of a group, [N]: the best by quality, then by name; else itself.

    Args:
        groups: [N], -1 for clips without duplicates.
        quality: [N], higher is better; -inf for clips that may not stay while another one may.
        names: [N].
    """
    kept = np.arange(len(groups))
    members = np.flatnonzero(groups >= 0)
    if len(members):
        order = members[np.lexsort((names[members], -quality[members], groups[members]))]
        starts = np.r_[True, np.diff(groups[order]) > 0]
        kept[order] = order[starts][np.cumsum(starts) - 1]
    return kept
