"""Previews of annotated clips: first frame, last frame and depth, read without the rest of the clip."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.io.resizing import resize_and_crop

if TYPE_CHECKING:
    import pandas as pd

HEIGHT, WIDTH = 64, 96


def thumbnails(
    annotated_dir: str | os.PathLike[str], table: pd.DataFrame, limit: int = 24, *, columns: int = 6
) -> np.ndarray:
    """Contact sheet [H, W, 3] uint8 of at most `limit` annotated clips, evenly spaced over a curation table.

    Each clip is a column of three 64x96 images: first frame, last frame, and depth of the first frame (near is red, far
    is blue, unknown is gray).
    """
    from fourdnex.rendering.contact_sheet import contact_sheet

    shown = table[table["mean_confidence"].notna()]
    shown = shown.iloc[np.unique(np.linspace(0, len(shown) - 1, min(limit, len(shown))).astype(int))]
    tiles = [tile for _, tile in preview_tiles(annotated_dir, shown)]
    if not tiles:
        return np.full((3 * HEIGHT, WIDTH, 3), 128, np.uint8)
    return contact_sheet(tiles, columns, gap=0)


def preview_tiles(annotated_dir: str | os.PathLike[str], table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Name and tile [192, 96, 3] uint8 of the annotated clips of a table with the columns name and shard.

    Raises:
        FileNotFoundError: a shard is not annotated.
        ValueError: the file of a shard is corrupt.
    """
    for shard, names in table.groupby("shard", sort=False)["name"]:
        yield from _shard_tiles(Path(annotated_dir) / f"{shard}.safetensors", list(names))


def _shard_tiles(path: Path, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and tile of clips of one shard."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing, although its table exists: run `fourdnex annotate`")
    try:
        with safe_open(path, framework="numpy") as file:
            for name in names:
                rgb, depth = file.get_slice(f"{name}/rgb"), file.get_slice(f"{name}/depth")
                last = rgb.get_shape()[0] - 1
                images = [rgb[0:1][0], rgb[last : last + 1][0], _depth_image(depth[0:1][0])]
                tile = np.concatenate([resize_and_crop(image, HEIGHT, WIDTH) for image in images], axis=0)
                tile[:, -1] = 255
                tile[-1] = 255
                yield name, tile
    except SafetensorError as error:
        raise ValueError(f"{path}: corrupt ({error}): remove it and run `fourdnex annotate` again") from error


def _depth_image(depth: np.ndarray) -> np.ndarray:
    """Colors [H, W, 3] uint8 of a depth map: near is red, far is blue, unknown is gray."""
    import cv2

    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return np.full((*depth.shape, 3), 128, np.uint8)
    inverse = 1 / np.where(known, depth, np.nan)
    low, high = np.nanpercentile(inverse, (2, 98))
    shade = np.nan_to_num(np.clip((inverse - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    colors = np.ascontiguousarray(cv2.applyColorMap(shade, cv2.COLORMAP_TURBO)[..., ::-1])
    colors[~known] = 128
    return colors
