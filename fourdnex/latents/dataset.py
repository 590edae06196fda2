"""The training clips of a folder of latents, as a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fourdnex.io.tables import read_parquet
from fourdnex.latents.codec import REFERENCE_STATISTICS
from fourdnex.latents.shards import PLANE, check_finite, open_shard, plane_key, read_summary, shard_names
from fourdnex.model.recipe import Recipe
from fourdnex.model.text_padding import TEXT_TOKENS


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The clips of one size."""

    shape: tuple[int, ...]
    """Shape of the latents, [2, 16, F, h, w]."""
    indices: tuple[int, ...]
    """Indices of the clips, ascending."""


class LatentClips(torch.utils.data.Dataset[dict[str, Any]]):
    """The training clips of a folder of latents, read one at a time.

    An item has `latents` `[2, 16, F, h, w]` (RGB, XYZ, both normalized), `condition` `[2, 16, F, h, w]`,
    `text` `[512, text_dim]` padded with zeros, `image` `[N, image_dim]` and `name`; and `xyz_weight` `[F, h, w]` if the
    points of some pixels are unknown or uncertain.

    Raises:
        FileNotFoundError: there are no latents.
        ValueError: there are no clips, the latents do not fit `recipe`, or the statistics are of other latents.
    """

    def __init__(self, folder: Path, recipe: Recipe | None = None):
        self.folder = Path(folder)
        self.recipe = recipe or Recipe()
        self.summary = read_summary(self.folder)
        self._check_encoding()
        is_reference = self.recipe.statistics_from == "reference"
        self.statistics = REFERENCE_STATISTICS if is_reference else self.summary.statistics
        self.index: list[tuple[str, str]] = []
        for shard in shard_names(self.folder):
            table = read_parquet(self.folder / f"{shard}.parquet", columns=("name",))
            self.index += [(shard, name) for name in table["name"]]
        if not self.index:
            raise ValueError(f"latents: expected clips in {folder}, got none")
        self._files: dict[str, safe_open] = {}
        self._keys: dict[str, frozenset[str]] = {}
        mean, std = torch.tensor(self.statistics.mean), torch.tensor(self.statistics.std)
        self._mean, self._std = mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """The clips by size, in the order of each size's first clip; only file headers are read.

        Raises:
            ValueError: a shard is truncated, or lacks a clip.
        """
        found: dict[tuple[int, ...], list[int]] = {}
        for index, (shard, name) in enumerate(self.index):
            try:
                shape = self._file(shard).get_slice(f"{name}/rgb").get_shape()
            except SafetensorError as error:
                raise ValueError(f"latents: clip {name} in shard {shard}: {error}; run `fourdnex encode`") from error
            found.setdefault((2, *shape), []).append(index)
        return tuple(Bucket(shape=shape, indices=tuple(indices)) for shape, indices in found.items())

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Raises ValueError if a value is not finite, or if the shard is damaged, naming clip and shard."""
        shard, name = self.index[index]
        try:
            return self._read(shard, name)
        except (SafetensorError, RuntimeError) as error:  # RuntimeError: tensors whose shapes do not fit
            raise ValueError(
                f"latents: clip {name} in shard {shard}: damaged ({error}); run `fourdnex encode`"
            ) from error

    def _read(self, shard: str, name: str) -> dict[str, Any]:
        """The item of one clip."""
        file = self._file(shard)

        def read(key: str) -> torch.Tensor:
            return check_finite(file.get_tensor(key), key, shard)

        text = read(f"{name}/text")
        rgb = read(f"{name}/rgb")
        if self.recipe.xyz_init == "plane" and self.recipe.condition == "apart":
            is_working_size = file.get_slice(PLANE).get_shape() == list(rgb.shape)
            xyz_condition = read(plane_key(rgb.shape, is_working_size=is_working_size))
        else:
            xyz_condition = read(f"{name}/{_xyz_condition_key(file, name)}")
        item = {
            "name": name,
            "latents": torch.stack([rgb, (read(f"{name}/xyz") - self._mean) / self._std]),
            "condition": torch.stack([read(f"{name}/condition"), xyz_condition]),
            "text": torch.nn.functional.pad(text, (0, 0, 0, TEXT_TOKENS - len(text))),
            "image": read(f"{name}/image"),
        }
        if f"{name}/xyz_weight" in self._keys[shard]:
            item["xyz_weight"] = _checked_weight(read(f"{name}/xyz_weight"), rgb.shape[1:], f"clip {name} in {shard}")
        return item

    def _file(self, shard: str) -> safe_open:
        """The open tensor file of a shard."""
        if shard not in self._files:
            self._files[shard] = open_shard(self.folder, shard)
            self._keys[shard] = frozenset(self._files[shard].keys())
        return self._files[shard]

    def _check_encoding(self) -> None:
        """Raise ValueError if the latents were encoded with other settings than the recipe's."""
        recipe, encoding = self.recipe, self.summary.encoding
        if encoding.normalization != recipe.normalization:
            raise ValueError(
                f"normalization: expected latents normalized per {recipe.normalization}, those in {self.folder} are "
                f"normalized per {encoding.normalization}; run `fourdnex encode --normalization {recipe.normalization}`"
            )
        if encoding.condition != recipe.condition:
            raise ValueError(
                f"condition: expected latents whose conditions were encoded {recipe.condition}, those in {self.folder} "
                f"were {encoding.condition}; run `fourdnex encode --condition {recipe.condition}`"
            )
        if encoding.condition == "joint" and encoding.xyz_init != recipe.xyz_init:
            raise ValueError(
                f"xyz_init: expected latents encoded jointly with xyz_init {recipe.xyz_init}, those in {self.folder} "
                f"have {encoding.xyz_init}; run `fourdnex encode --condition joint --xyz-init {recipe.xyz_init}`"
            )
        if recipe.xyz_init == "pointmap" and encoding.xyz_init != "pointmap":
            raise ValueError(
                f"xyz_init: expected latents with first-frame point maps, those in {self.folder} have none; "
                "run `fourdnex encode --xyz-init pointmap`"
            )


def _xyz_condition_key(file: safe_open, name: str) -> str:
    """Last part of the key of a clip's own XYZ condition; `start` in shards of earlier versions."""
    return "start" if f"{name}/start" in file.keys() else "xyz_condition"


def _checked_weight(weight: torch.Tensor, shape: torch.Size, where: str) -> torch.Tensor:
    """The weights of a clip; ValueError if their shape or a value is wrong."""
    if weight.shape != shape or not (weight.min() >= 0 and weight.max() <= 1):
        got = f"{tuple(weight.shape)} from {weight.min():.3g} to {weight.max():.3g}"
        raise ValueError(f"latents: xyz_weight of {where}: expected {tuple(shape)} in [0, 1], got {got}")
    return weight
