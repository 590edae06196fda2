"""Latent shards: what a training step reads, one safetensors file and one table a shard.

Keys of `{shard}.safetensors`, for each clip `{name}`:
`{name}/rgb`, `{name}/xyz` `[16, F, h, w]` latents after Wan's normalization (XYZ statistics are NOT applied yet),
`{name}/condition` `[16, F, h, w]` of the first RGB frame, `{name}/text` `[L, text_dim]` without padding,
`{name}/image` `[N, image_dim]`; and once `plane` `[16, F, h, w]`, the condition of the sloped plane, with
`plane/{h}x{w}` for each other size of latents. Clips of one shard may differ in h and w. Shards encoded
with `xyz_init="pointmap"` have `{name}/xyz_condition` `[16, F, h, w]` too, the condition of the clip's own first point map. With
`condition="joint"` there is no `plane`: `{name}/condition` and `{name}/xyz_condition`, of the plane or of the first point map,
were encoded side by side.
The table has one row a clip: name, center_x, center_y, center_z (per frame: the median of its frames), scale,
valid_share. How the latents were made lies in the file's metadata and in `statistics.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open

from fourdnex.io.files import atomic_path, read_json, write_json, write_tensors
from fourdnex.io.renamed import renamed_recipe
from fourdnex.latents.codec import REFERENCE_STATISTICS, LatentStatistics
from fourdnex.model.precision import Resolved
from fourdnex.model.recipe import Condition, Normalize, Recipe, XyzInit, recorded
from fourdnex.model.text_padding import TEXT_TOKENS

STATISTICS_FILE = "statistics.json"
PLANE = "plane"


def plane_key(shape: Sequence[int], *, own: bool) -> str:
    """Key of the plane's condition of this shape [..., h, w]; `own`: of the size that the base works at."""
    return PLANE if own else f"{PLANE}/{shape[-2]}x{shape[-1]}"


@dataclass(frozen=True, kw_only=True)
class LatentEncoding:
    """How latents were made: what a recipe says of it, the base whose VAE it was, and what that computed in."""

    normalization: Normalize = "clip"
    xyz_init: XyzInit = "plane"
    condition: Condition = "apart"
    base_digest: str = ""
    precision: Resolved = "fp32"


@dataclass(frozen=True, kw_only=True)
class LatentSummary:
    """Statistics over all latent shards: `statistics` of XYZ latents, median center and scale of the clips."""

    statistics: LatentStatistics
    center: tuple[float, float, float]
    scale: float
    num_clips: int
    encoding: LatentEncoding
    shards: dict[str, str]
    """Fingerprint of each shard that the statistics are of."""


def write_latent_shard(
    folder: Path,
    shard: str,
    tensors: Mapping[str, torch.Tensor],
    table: pd.DataFrame,
    fingerprint: str,
    encoding: LatentEncoding,
    failed: Iterable[tuple[str, str]] = (),
) -> None:
    """Write table and tensors; the tensors last, so that a tensor file is always a finished shard.

    Args:
        folder: of the latents.
        shard: its name.
        tensors: as described above.
        table: one row a clip.
        fingerprint: of what the shard was made from.
        encoding: how.
        failed: name and reason of each clip that could not be encoded.
    """
    metadata = {
        "fingerprint": fingerprint,
        "encoding": json.dumps(recorded(asdict(encoding))),
        "failed": json.dumps(list(failed)),
    }
    with atomic_path(folder / f"{shard}.parquet") as path:
        table.to_parquet(path, index=False)
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    write_tensors(folder / f"{shard}.safetensors", contiguous, metadata)


def shard_fingerprint(folder: Path, shard: str) -> str | None:
    """What the shard was made from, or None if it is not there (or not whole)."""
    if not (folder / f"{shard}.safetensors").exists() or not (folder / f"{shard}.parquet").exists():
        return None
    try:
        return _metadata(folder, shard).get("fingerprint")
    except SafetensorError:
        return None


def shard_failures(folder: Path, shard: str) -> tuple[tuple[str, str], ...]:
    """Name and reason of each clip that could not be encoded into a finished shard."""
    return tuple((name, reason) for name, reason in json.loads(_failed(_metadata(folder, shard))))


def _metadata(folder: Path, shard: str) -> dict[str, str]:
    with safe_open(folder / f"{shard}.safetensors", framework="pt") as file:
        return file.metadata() or {}


def _failed(metadata: Mapping[str, str]) -> str:
    return metadata.get("failed", metadata.get("set_aside", "[]"))  # the former name


def _own_condition(file: safe_open, name: str) -> str:
    """Key of a clip's own XYZ condition; shards of earlier versions call it `start`."""
    return "start" if f"{name}/start" in file.keys() else "xyz_condition"


def _open(folder: Path, shard: str) -> safe_open:
    path = folder / f"{shard}.safetensors"
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file, got {error}; remove it and run `fourdnex encode`"
        ) from error


def _finite(tensor: torch.Tensor, key: str, shard: str) -> torch.Tensor:
    if not torch.isfinite(tensor).all():
        name, _, what = key.rpartition("/")
        whose = f"{what} of clip {name}" if name else what
        raise ValueError(f"latents: {whose} in shard {shard}: expected finite numbers, got NaN or infinity")
    return tensor


def shard_names(folder: Path) -> list[str]:
    """Names of the latent shards in a folder, sorted.

    Raises:
        FileNotFoundError: if there is none.
    """
    names = sorted(path.stem for path in Path(folder).glob("[!.]*.safetensors"))
    if not names:
        raise FileNotFoundError(f"latents: no shards in {folder}; run `fourdnex encode` first")
    return names


def read_summary(folder: Path) -> LatentSummary:
    """`statistics.json` of a latents folder.

    Raises:
        FileNotFoundError: if there are no shards, or no statistics of them.
        ValueError: if the folder's shards are not those that the statistics were estimated from.
    """
    path = Path(folder) / STATISTICS_FILE
    present = {shard: shard_fingerprint(folder, shard) for shard in shard_names(folder)}
    if not path.exists():
        raise FileNotFoundError(f"latents: no {STATISTICS_FILE} in {folder}; run `fourdnex encode` again")
    data = read_json(path)
    if data.get("shards") != present:
        known = data.get("shards") or {}
        differ = sorted(shard for shard in {*known, *present} if known.get(shard) != present.get(shard))
        raise ValueError(
            f"{path}: estimated from other latents than lie beside it (shards {differ[:3]} differ); "
            "run `fourdnex encode` again, and remove shards of other data"
        )
    return LatentSummary(
        statistics=LatentStatistics(mean=tuple(data["statistics"]["mean"]), std=tuple(data["statistics"]["std"])),
        center=tuple(data["center"]),
        scale=data["scale"],
        num_clips=data["num_clips"],
        encoding=LatentEncoding(**renamed_recipe(data["encoding"], source=path)),
        shards=data["shards"],
    )


def estimate_statistics(folder: Path, shards: list[str] | None = None) -> LatentSummary:
    """Per-channel mean and deviation of all XYZ latents, median center and scale; written to `statistics.json`.

    Raises:
        FileNotFoundError: if there are no shards.
        ValueError: if they hold no clips, a number that is not finite, or were not all made the same way.
    """
    folder = Path(folder)
    count, tables = 0, []
    shards = shards or shard_names(folder)
    encodings = {shard: _shard_encoding(folder, shard) for shard in shards}
    if len(set(encodings.values())) > 1:
        raise ValueError(
            f"latents: expected one encoding for all shards of {folder}, got {encodings}; run `fourdnex encode`"
        )
    total = square = torch.zeros((), dtype=torch.float64)
    for shard in shards:
        table = pd.read_parquet(folder / f"{shard}.parquet")
        tables.append(table)
        with _open(folder, shard) as file:
            for name in table["name"]:
                latents = _finite(file.get_tensor(f"{name}/xyz"), f"{name}/xyz", shard).double().flatten(1)
                count += latents.shape[1]
                total = total + latents.sum(dim=1)
                square = square + latents.square().sum(dim=1)
    if count == 0:
        raise ValueError(f"latents: expected clips in the shards of {folder}, got none")
    mean = total / count
    std = (square / count - mean**2).clamp_min(1e-12).sqrt()
    joined = pd.concat(tables)
    x, y, z = (float(joined[f"center_{axis}"].median()) for axis in "xyz")
    summary = LatentSummary(
        statistics=LatentStatistics(mean=tuple(mean.tolist()), std=tuple(std.tolist())),
        center=(x, y, z),
        scale=float(joined["scale"].median()),
        num_clips=len(joined),
        encoding=encodings[shards[0]],
        shards={shard: shard_fingerprint(folder, shard) or "" for shard in shards},
    )
    write_json(folder / STATISTICS_FILE, recorded(asdict(summary)))
    return summary


def _shard_encoding(folder: Path, shard: str) -> LatentEncoding:
    with _open(folder, shard) as file:
        encoding = json.loads((file.metadata() or {}).get("encoding", "{}"))
    return LatentEncoding(**renamed_recipe(encoding, source=folder / f"{shard}.safetensors"))


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The clips of one size."""

    shape: tuple[int, ...]
    """Of their latents, [2, 16, F, h, w]."""
    indices: tuple[int, ...]
    """Which they are, ascending."""


class LatentClips(torch.utils.data.Dataset):
    """The training clips of a latents folder, read one at a time from the shards.

    An item has `latents` `[2, 16, F, h, w]` (RGB, XYZ, both normalized), `condition` `[2, 16, F, h, w]`,
    `text` `[512, text_dim]` zero-padded, `image` `[N, image_dim]` and `name`.

    Raises:
        FileNotFoundError: if there are no latents.
        ValueError: if there are no clips, the latents were encoded in another way than `recipe` says, or their
            statistics are those of other latents.
    """

    def __init__(self, folder: Path, recipe: Recipe | None = None):
        self.folder = Path(folder)
        self.recipe = recipe or Recipe()
        self.summary = read_summary(self.folder)
        self._check_encoding()
        public = self.recipe.statistics_from == "reference"
        self.statistics = REFERENCE_STATISTICS if public else self.summary.statistics
        self.index: list[tuple[str, str]] = []
        for shard in shard_names(self.folder):
            self.index += [(shard, name) for name in pd.read_parquet(self.folder / f"{shard}.parquet")["name"]]
        if not self.index:
            raise ValueError(f"latents: expected clips in {folder}, got none")
        self._files: dict[str, safe_open] = {}
        mean, std = torch.tensor(self.statistics.mean), torch.tensor(self.statistics.std)
        self._mean, self._std = mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """The clips by size, in the order of each size's first clip; from the shards' headers alone.

        Raises:
            ValueError: a shard is not whole.
        """
        found: dict[tuple[int, ...], list[int]] = {}
        for index, (shard, name) in enumerate(self.index):
            shape = self._file(shard).get_slice(f"{name}/rgb").get_shape()
            found.setdefault((2, *shape), []).append(index)
        return tuple(Bucket(shape=shape, indices=tuple(indices)) for shape, indices in found.items())

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Raises ValueError when a number is not finite, naming clip and shard, or when the shard is not whole."""
        shard, name = self.index[index]
        file = self._file(shard)

        def read(key: str) -> torch.Tensor:
            return _finite(file.get_tensor(key), key, shard)

        text = read(f"{name}/text")
        is_shared = self.recipe.xyz_init == "plane" and self.recipe.condition == "apart"
        rgb = read(f"{name}/rgb")
        plane = plane_key(rgb.shape, own=file.get_slice(PLANE).get_shape() == list(rgb.shape)) if is_shared else ""
        xyz_condition = read(plane or f"{name}/{_own_condition(file, name)}")
        return {
            "name": name,
            "latents": torch.stack([rgb, (read(f"{name}/xyz") - self._mean) / self._std]),
            "condition": torch.stack([read(f"{name}/condition"), xyz_condition]),
            "text": torch.nn.functional.pad(text, (0, 0, 0, TEXT_TOKENS - len(text))),
            "image": read(f"{name}/image"),
        }

    def _file(self, shard: str) -> safe_open:
        if shard not in self._files:
            self._files[shard] = _open(self.folder, shard)
        return self._files[shard]

    def _check_encoding(self) -> None:
        asked, made = self.recipe, self.summary.encoding
        if made.normalization != asked.normalization:
            raise ValueError(
                f"normalization: expected latents normalized per {asked.normalization}, those in {self.folder} are per "
                f"{made.normalization}; run `fourdnex encode --normalization {asked.normalization}`"
            )
        if made.condition != asked.condition:
            raise ValueError(
                f"condition: expected latents whose conditions were encoded {asked.condition}, those in {self.folder} "
                f"were {made.condition}; run `fourdnex encode --condition {asked.condition}`"
            )
        if made.condition == "joint" and made.xyz_init != asked.xyz_init:
            raise ValueError(
                f"xyz_init: expected latents encoded jointly with xyz_init {asked.xyz_init}, those in {self.folder} "
                f"have {made.xyz_init}; run `fourdnex encode --condition joint --xyz-init {asked.xyz_init}`"
            )
        if asked.xyz_init == "pointmap" and made.xyz_init != "pointmap":
            raise ValueError(
                f"xyz_init: expected latents with the clips' first point maps, those in {self.folder} have none; "
                "run `fourdnex encode --xyz-init pointmap`"
            )
