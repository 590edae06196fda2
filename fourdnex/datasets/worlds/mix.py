"""Which worlds a data set is made of: families and sizes, spread evenly over consecutive seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fourdnex.datasets.worlds import HEIGHT, WIDTH, training_seeds
from fourdnex.datasets.worlds.families import FAMILIES, HELD_OUT_FAMILIES, PRIMITIVES, TRAINING_FAMILIES

MULTIPLE = 16
"""Height and width are multiples of it, as the VAE and the transformer's patches ask for."""
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class WorldChoice:
    """A world to render."""

    seed: int
    family: str
    size: Size


@dataclass(frozen=True, kw_only=True)
class WorldMix:
    """Shares of families and of sizes (height, width); both add up to 1."""

    families: Mapping[str, float]
    sizes: Mapping[Size, float]

    def __post_init__(self) -> None:
        for family in self.families:
            if family not in FAMILIES or family in HELD_OUT_FAMILIES:
                raise ValueError(f"families: expected some of {', '.join(TRAINING_FAMILIES)}, got {family!r}")
        for name, shares in (("families", self.families.values()), ("sizes", self.sizes.values())):
            if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
                raise ValueError(f"{name}: expected shares that add up to 1, got {list(shares)}")

    def choices(self, num_worlds: int, first_seed: int, *, block: int = 1) -> list[list[WorldChoice]]:
        """Blocks of at most `block` worlds of one family and size; every stretch of them has about the shares."""
        seeds = list(training_seeds(first_seed, num_worlds))
        kinds = [(family, size) for family in self.families for size in self.sizes]
        shares = np.array([self.families[family] * self.sizes[size] for family, size in kinds])
        given, blocks = np.zeros(len(kinds)), []
        for start in range(0, num_worlds, block):
            # The kind that is due first when each comes at even distances: half a distance after the last one.
            with np.errstate(divide="ignore"):
                chosen = int(((given + 0.5) / shares).argmin())
            given[chosen] += 1
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
    """Shares of families, and equal ones of ratios ("3:2" is width to height) at the area of `height` and `width`.

    `primitives` is the share of the family of that name, the others have equal ones; None: so have all.

    Raises:
        ValueError: a family that there is not or that is held out, a ratio of another form, or one named twice.
    """
    sizes = [ratio_size(ratio, height=height, width=width) for ratio in ratios] or [(height, width)]
    for name, values in (("families", families), ("ratios", sizes)):
        if len(set(values)) != len(values):
            raise ValueError(f"{name}: expected each once, got {values}")
    shares = {family: 1 / len(families) for family in families}
    if primitives is not None and PRIMITIVES in families and len(families) > 1:
        shares = {family: (1 - primitives) / (len(families) - 1) for family in families} | {PRIMITIVES: primitives}
    return WorldMix(families=shares, sizes={size: 1 / len(sizes) for size in sizes})


def ratio_size(ratio: str, *, height: int = HEIGHT, width: int = WIDTH) -> Size:
    """Height and width of about the area of `height` and `width`, multiples of 16.

    Raises:
        ValueError: the ratio is not of the form "3:2".
    """
    parts = ratio.split(":")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"ratios: expected width:height, such as 3:2, got {ratio!r}")
    across, up = (int(part) for part in parts)
    if across * height == up * width:
        return height, width
    side = np.sqrt(height * width * across / up)
    return (
        max(1, round(height * width / side / MULTIPLE)) * MULTIPLE,
        max(1, round(side / MULTIPLE)) * MULTIPLE,
    )
