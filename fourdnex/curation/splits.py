"""Quotas per tag, and splits into train, val and test that do not leak."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from fourdnex.curation.set_rules import SPLITS


def over_quota(
    accepted: np.ndarray,  # [N] bool
    has_tag: np.ndarray,  # [N] bool
    quota: float,
    quality: np.ndarray,  # [N]
    names: np.ndarray,  # [N] str
) -> np.ndarray:
    """Which accepted clips exceed the quota of a tag, [N] bool: those of lowest quality, at equal quality by a hash.

    Args:
        accepted: clips accepted so far.
        has_tag: clips with the tag.
        quota: max share of the accepted clips that remain (below 1), or max number (1 or more).
        quality: higher is better.
        names: of the clips.

    Raises:
        ValueError: all accepted clips have the tag, so that no share of it can be reached.
    """
    tagged = np.flatnonzero(accepted & has_tag)
    count, total = len(tagged), int(accepted.sum())
    if quota >= 1:
        excess = count - int(quota)
    else:
        # Removing r tagged clips leaves (count - r) / (total - r), which must be at most the quota.
        excess = int(np.ceil((count - quota * total) / (1 - quota) - 1e-9))
        if excess >= count > 0:
            raise ValueError(f"quota {quota:g}: expected clips without the tag, but all {count} accepted clips have it")
    removed = np.zeros(len(accepted), bool)
    if excess > 0:  # hashes are computed only if they are needed
        ties = np.array([unit_hash(name) for name in names[tagged]])
        removed[tagged[np.lexsort((ties, quality[tagged]))[:excess]]] = True
    return removed


def split_clips(groups: np.ndarray, names: np.ndarray, shares: Mapping[str, float]) -> np.ndarray:
    """Split of every clip, [N] of str. Clips of one leak group are in one split.

    A group's split is a hash of its first name, so that it stays when other clips are added.

    Args:
        groups: [N], from `leak_groups`.
        names: [N].
        shares: split -> share.
    """
    order = np.lexsort((names, groups))
    starts = np.r_[True, np.diff(groups[order]) > 0]
    firsts = names[order][starts]
    bounds = np.cumsum([shares.get(split, 0.0) for split in SPLITS])
    units = np.array([unit_hash(name) for name in firsts])
    # The last split takes what rounding leaves.
    last = max(position for position, split in enumerate(SPLITS) if shares.get(split, 0.0) > 0)
    of_group = np.minimum(np.searchsorted(bounds, units, side="right"), last)
    splits = np.empty(len(names), object)
    splits[order] = np.array(SPLITS, object)[of_group][np.cumsum(starts) - 1]
    return splits


def leak_groups(keys: Sequence[np.ndarray]) -> np.ndarray:
    """Number of the group of every clip, [N]: clips that share any key are in one group, also through other clips.

    Args:
        keys: arrays [N], such as source video, digest of the source and duplicate group. Empty text and -1 are no key.
    """
    import pandas as pd
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(keys[0])
    clips, nodes, offset = [], [], count
    for key in keys:
        codes, distinct = pd.factorize(key)
        is_key = np.array([value not in ("", -1) for value in distinct] + [False])  # -1: missing
        linked = np.flatnonzero(is_key[codes])
        clips.append(linked)
        nodes.append(codes[linked] + offset)
        offset += len(distinct)
    rows, columns = np.concatenate(clips), np.concatenate(nodes)
    links = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(offset, offset))
    _, labels = connected_components(links, directed=False)
    return np.asarray(labels[:count])


def unit_hash(text: str) -> float:
    """A number in [0, 1) that depends on the text only, uniform over texts."""
    return int.from_bytes(hashlib.blake2b(str(text).encode(), digest_size=7).digest(), "big") / 2**56
