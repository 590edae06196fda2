"""Rules on the data set as a whole: duplicates, scenario tags, quotas and splits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

TAGS = ("indoor", "outdoor", "close-range", "far-range", "high-speed", "human-centric")
"""The six scenario tags of 4DNeX-10M."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class DuplicateRules:
    """When two clips show the same. Of each group of duplicates, one clip stays."""

    max_distance: float | None = 10.0
    """Max different bits, of 189 of three frames, of two duplicates. None: duplicates are not searched."""
    max_color_distance: float = 16.0
    """Max mean difference, 0..255, of the coarse colors of two duplicates, up to brightness."""


@dataclass(frozen=True, kw_only=True)
class TagRules:
    """When a clip whose data set and caption say nothing gets a tag, see `fourdnex.curation.tags`."""

    min_sky_share: float = 0.06
    """Min share of sky of an outdoor clip."""
    min_outdoor_spread: float = 20.0
    """Min ratio of far to near depth of an outdoor clip without sky."""
    max_close_spread: float = 3.0
    """Max ratio of far to near depth of a close-range clip."""
    min_far_spread: float = 8.0
    """Min ratio of far to near depth of a far-range clip."""
    min_speed: float = 0.25
    """Min optical flow of a high-speed clip, image widths per second."""


@dataclass(frozen=True, kw_only=True)
class SetRules:
    """Rules on the data set as a whole.

    Raises:
        ValueError: an unknown tag or split, or a share out of range.
    """

    duplicates: DuplicateRules = DuplicateRules()
    tags: TagRules = TagRules()
    quotas: Mapping[str, float] = field(default_factory=dict)
    """Tag -> max share of the accepted clips (below 1) or max number of clips (1 or more)."""
    splits: Mapping[str, float] = field(default_factory=lambda: {"train": 1.0})
    """Split -> share of the clips; the shares sum to 1."""

    def __post_init__(self) -> None:
        for section in (self.duplicates, self.tags):
            for rule in fields(section):
                value = getattr(section, rule.name)
                if not _is_number(value) and not (value is None and rule.name == "max_distance"):
                    raise ValueError(f"{rule.name}: expected a finite number of at least 0, got {value!r}")
        for tag, quota in self.quotas.items():
            if tag not in TAGS:
                raise ValueError(f"quotas: expected any of {', '.join(TAGS)}, got {tag!r}")
            if not _is_number(quota) or (quota > 1 and quota != round(quota)):
                raise ValueError(f"quotas: {tag}: expected a share below 1 or a number of clips, got {quota!r}")
        for split, share in self.splits.items():
            if split not in SPLITS:
                raise ValueError(f"splits: expected any of {', '.join(SPLITS)}, got {split!r}")
            if not _is_number(share) or share > 1:
                raise ValueError(f"splits: {split}: expected a share from 0 to 1, got {share!r}")
        if abs(sum(self.splits.values()) - 1) > 1e-6:
            raise ValueError(f"splits: expected shares that sum to 1, got {dict(self.splits)}")


def _is_number(value: object) -> bool:
    """Whether a value is a finite number of at least 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
