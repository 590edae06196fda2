"""Mixtures of world families and sizes, distributed evenly over consecutive seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fourdnex.datasets.worlds import HEIGHT, WIDTH, training_seeds
from fourdnex.datasets.worlds.families import FAMILIES, HELD_OUT_FAMILIES, PRIMITIVES, TRAINING_FAMILIES

MULTIPLE = 16
"""Height and width are multiples of this number, as the VAE and the transformer patches require."""
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class WorldChoice:
    """One world to render."""

    seed: int
    family: str
    size: Size


@dataclass(frozen=True, kw_only=True)
class WorldMix:
    """Shares of families and of sizes (height, width). Each set of shares sums to 1.

    Raises:
        ValueError: an unknown or held-out family, or shares that are negative or do not sum to 1.
    """

    families: Mapping[str, float]
    sizes: Mapping[Size, float]

    def __post_init__(self) -> None:
        for family in self.families:
            if family not in FAMILIES or family in HELD_OUT_FAMILIES:
                raise ValueError(f"families: expected a subset of {', '.join(TRAINING_FAMILIES)}, got {family!r}")
        for name, shares in (("families", self.families.values()), ("sizes", self.sizes.values())):
            if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
                raise ValueError(f"{name}: expected non-negative shares that sum to 1, got {list(shares)}")

    def choices(self, num_worlds: int, first_seed: int, *, block: int = 1) -> list[list[WorldChoice]]:
        """Blocks of at most `block` worlds that share family and size; every run of blocks approximates the shares."""
        seeds = list(training_seeds(first_seed, num_worlds))
        kinds = [(family, size) for family in self.families for size in self.sizes]
        shares = np.array([self.families[family] * self.sizes[size] for family, size in kinds])
        counts, blocks = np.zeros(len(kinds)), []
        for start in range(0, num_worlds, block):
            # Evenly spaced kinds: choose the one whose next ideal position comes first.
            with np.errstate(divide="ignore"):
                chosen = int(((counts + 0.5) / shares).argmin())
            counts[chosen] += 1
            family, size = kinds[chosen]
            blocks.append([WorldChoice(seed=seed, family=family, size=size) for seed in seeds[start : start + block]])
        return blocks


def make_mix(
    families: tuple[str, ...] = (PRIMITIVES,),
    ratios: tuple[str, ...] = (),
    *,
    primitives: float | None = None,
    height: int = HEIGHT,
    width: int = WIDTH,
) -> WorldMix:
    """A mix of families and of aspect ratios, in equal shares.

    Args:
        families: some of `TRAINING_FAMILIES`.
        ratios: aspect ratios, width to height, such as "3:2"; empty = that of `height` and `width`.
        primitives: share of the family `primitives`; the other families share the rest equally. None = equal shares.
        height: pixels; height and width give the area of all sizes.
        width: pixels.

    Raises:
        ValueError: an unknown or held-out family, a malformed ratio, or a duplicate.
    """
    sizes = [ratio_size(ratio, height=height, width=width) for ratio in ratios] or [(height, width)]
    for name, values in (("families", families), ("ratios", sizes)):
        if len(set(values)) != len(values):
            raise ValueError(f"{name}: expected no duplicates, got {values}")
    shares = {family: 1 / len(families) for family in families}
    if primitives is not None and PRIMITIVES in families and len(families) > 1:
        shares = {family: (1 - primitives) / (len(families) - 1) for family in families} | {PRIMITIVES: primitives}
    return WorldMix(families=shares, sizes={size: 1 / len(sizes) for size in sizes})


def ratio_size(ratio: str, *, height: int = HEIGHT, width: int = WIDTH) -> Size:
    """Height and width, multiples of 16, of an aspect ratio at about the area of `height` and `width`.

    Raises:
        ValueError: the ratio does not have the form "3:2".
    """
    parts = ratio.split(":")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"ratios: expected width:height, such as 3:2, got {ratio!r}")
    ratio_width, ratio_height = (int(part) for part in parts)
    if ratio_width * height == ratio_height * width:
        return height, width
    side = np.sqrt(height * width * ratio_width / ratio_height)
    return (
        max(1, round(height * width / side / MULTIPLE)) * MULTIPLE,
        max(1, round(side / MULTIPLE)) * MULTIPLE,
    )
