"""Latent shards: the input of training, one safetensors file and one table per shard.

Keys of `{shard}.safetensors`, for each clip `{name}`:

- `{name}/rgb`, `{name}/xyz` `[16, F, h, w]`: latents with Wan's normalization (the XYZ statistics are NOT applied yet)
- `{name}/condition` `[16, F, h, w]`: condition of the first RGB frame
- `{name}/xyz_condition` `[16, F, h, w]`: condition of the clip's own first-frame point map, with
  `xyz_init="pointmap"`
- `{name}/xyz_weight` `[F, h, w]`: mean confidence of the pixels of each latent cell in [0, 1], with 0 for unknown
  points; absent if it is 1 everywhere
- `{name}/text` `[L, text_dim]`: text embedding without padding
- `{name}/image` `[N, image_dim]`: image embedding of the first frame
- `plane` `[16, F, h, w]`: condition of the sloped plane at the base's working size, and `plane/{h}x{w}` for each other
  size of latents; clips of one shard may differ in h and w

With `condition="joint"` there is no `plane`: `{name}/condition` and `{name}/xyz_condition` (of the plane or of the
first-frame point map) were encoded side by side.

The table has one row per clip: name, center_x, center_y, center_z (with normalization per frame, the median over the
frames), scale, valid_share, and where the clip is from: sha256, source_sha256, video. The settings of the encoding are
in the metadata of the file and in `statistics.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open

from fourdnex.io.files import atomic_path, read_json, write_json, write_tensors
from fourdnex.io.renamed import renamed_recipe
from fourdnex.io.tables import read_parquet
from fourdnex.latents.codec import LatentStatistics
from fourdnex.model.precision import Resolved
from fourdnex.model.recipe import Condition, Normalize, XyzInit, recorded

STATISTICS_FILE = "statistics.json"
PLANE = "plane"
TABLE_COLUMNS = ("name", "center_x", "center_y", "center_z", "scale")
"""Columns of a shard's table that are read."""


def plane_key(shape: Sequence[int], *, is_working_size: bool) -> str:
    """Key of the plane's condition of shape [..., h, w]; `is_working_size`: whether this is the base's working size."""
    return PLANE if is_working_size else f"{PLANE}/{shape[-2]}x{shape[-1]}"


@dataclass(frozen=True, kw_only=True)
class LatentEncoding:
    """Settings that latents were encoded with: those of the recipe, and the VAE's base and precision."""

    normalization: Normalize = "clip"
    xyz_init: XyzInit = "plane"
    condition: Condition = "apart"
    base_digest: str = ""
    precision: Resolved = "fp32"


@dataclass(frozen=True, kw_only=True)
class LatentSummary:
    """Statistics over all latent shards, `statistics.json`."""

    statistics: LatentStatistics
    """Statistics of the XYZ latents."""
    center: tuple[float, float, float]
    """Median center of the clips."""
    scale: float
    """Median scale of the clips."""
    num_clips: int
    encoding: LatentEncoding
    """Settings of the encoding, the same for all shards."""
    shards: dict[str, str]
    """Shard -> fingerprint, of all shards that the statistics were estimated from."""


def write_latent_shard(
    folder: Path,
    shard: str,
    tensors: Mapping[str, torch.Tensor],
    table: pd.DataFrame,
    fingerprint: str,
    encoding: LatentEncoding,
    failed: Iterable[tuple[str, str]] = (),
) -> None:
    """Write a shard; the tensors are written after the table, so that a tensor file always means a complete shard.

    Args:
        folder: folder of latents.
        shard: name of the shard.
        tensors: tensors by key, see the module's docstring.
        table: one row per clip.
        fingerprint: fingerprint of the shard's inputs.
        encoding: settings of the encoding.
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
    """Fingerprint of the inputs of a shard; None if the shard does not exist or is incomplete."""
    if not (folder / f"{shard}.safetensors").exists() or not (folder / f"{shard}.parquet").exists():
        return None
    try:
        return _metadata(folder, shard).get("fingerprint")
    except SafetensorError:
        return None


def shard_failures(folder: Path, shard: str) -> tuple[tuple[str, str], ...]:
    """Name and reason of each clip of a complete shard that could not be encoded; ValueError if it is damaged."""
    try:
        return tuple((str(name), str(reason)) for name, reason in json.loads(_failed(_metadata(folder, shard))))
    except (SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / shard}.safetensors: expected a list of failed clips, got {error}") from error


def _metadata(folder: Path, shard: str) -> dict[str, str]:
    """Metadata of a shard's tensor file."""
    with safe_open(folder / f"{shard}.safetensors", framework="pt") as file:
        return file.metadata() or {}


def _failed(metadata: Mapping[str, str]) -> str:
    """JSON of the failed clips."""
    return metadata.get("failed", metadata.get("set_aside", "[]"))  # the former name


def open_shard(folder: Path, shard: str) -> safe_open:
    """Open a shard's tensor file; raises ValueError if it is truncated."""
    path = folder / f"{shard}.safetensors"
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a valid safetensors file, got {error}; remove it and run `fourdnex encode`"
        ) from error


def check_finite(tensor: torch.Tensor, key: str, shard: str) -> torch.Tensor:
    """`tensor` itself; raises ValueError naming clip and shard if a value is not finite."""
    if not torch.isfinite(tensor).all():
        name, _, what = key.rpartition("/")
        owner = f"{what} of clip {name}" if name else what
        raise ValueError(f"latents: {owner} in shard {shard}: expected finite numbers, got NaN or infinity")
    return tensor


def shard_names(folder: Path) -> list[str]:
    """Names of the latent shards in a folder, sorted.

    Raises:
        FileNotFoundError: there are no shards.
    """
    names = sorted(path.stem for path in Path(folder).glob("[!.]*.safetensors"))
    if not names:
        raise FileNotFoundError(f"latents: no shards in {folder}; run `fourdnex encode` first")
    return names


def read_summary(folder: Path) -> LatentSummary:
    """Read `statistics.json` of a folder of latents.

    Raises:
        FileNotFoundError: there are no shards, or no statistics.
        ValueError: the file is damaged, or the statistics were not estimated from the shards in the folder.
    """
    path = Path(folder) / STATISTICS_FILE
    present = {shard: shard_fingerprint(folder, shard) for shard in shard_names(folder)}
    if not path.exists():
        raise FileNotFoundError(f"latents: no {STATISTICS_FILE} in {folder}; run `fourdnex encode` again")
    data = read_json(path)
    recorded_shards = data.get("shards") if isinstance(data, dict) else None
    if not isinstance(recorded_shards, dict):
        raise ValueError(f"{path}: expected an object with statistics and shards; run `fourdnex encode` again")
    if recorded_shards != present:
        names = {*recorded_shards, *present}
        differ = sorted(shard for shard in names if recorded_shards.get(shard) != present.get(shard))
        raise ValueError(
            f"{path}: estimated from other latents than those in its folder (shards {differ[:3]} differ); "
            "run `fourdnex encode` again, and remove shards of other data"
        )
    try:
        mean, std = (tuple(map(float, data["statistics"][name])) for name in ("mean", "std"))
        x, y, z = map(float, data["center"])
        return LatentSummary(
            statistics=LatentStatistics(mean=mean, std=std),
            center=(x, y, z),
            scale=float(data["scale"]),
            num_clips=int(data["num_clips"]),
            encoding=LatentEncoding(**renamed_recipe(data["encoding"], source=path)),
            shards=recorded_shards,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: damaged ({error!r}); run `fourdnex encode` again") from error


def estimate_statistics(folder: Path, shards: list[str] | None = None) -> LatentSummary:
    """Estimate the statistics of latent shards, weighted by `xyz_weight`, and write them to `statistics.json`.

    Args:
        folder: folder of latents.
        shards: names of the shards; None: all.

    Raises:
        FileNotFoundError: there are no shards.
        ValueError: the shards have no clips, values that are not finite, or different encoding settings.
    """
    folder = Path(folder)
    count, tables = 0.0, []
    shards = shards or shard_names(folder)
    encodings = {shard: _shard_encoding(folder, shard) for shard in shards}
    if len(set(encodings.values())) > 1:
        raise ValueError(
            f"latents: expected one encoding for all shards of {folder}, got {encodings}; run `fourdnex encode`"
        )
    total = square = torch.zeros((), dtype=torch.float64)
    for shard in shards:
        table = read_parquet(folder / f"{shard}.parquet", columns=TABLE_COLUMNS)
        tables.append(table)
        with open_shard(folder, shard) as file:
            keys = frozenset(file.keys())
            for name in table["name"]:
                latents = check_finite(file.get_tensor(f"{name}/xyz"), f"{name}/xyz", shard).double().flatten(1)
                if f"{name}/xyz_weight" in keys:
                    weight = check_finite(file.get_tensor(f"{name}/xyz_weight"), f"{name}/xyz_weight", shard)
                    cells = weight.double().flatten()
                    count += float(cells.sum())
                    total = total + (cells * latents).sum(dim=1)
                    square = square + (cells * latents.square()).sum(dim=1)
                    continue
                count += latents.shape[1]
                total = total + latents.sum(dim=1)
                square = square + latents.square().sum(dim=1)
    if count == 0:
        raise ValueError(f"latents: expected clips in the shards of {folder}, got none")
    mean = total / count
    std = (square / count - mean**2).clamp_min(1e-12).sqrt()
    clips = pd.concat(tables)
    x, y, z = (float(clips[f"center_{axis}"].median()) for axis in "xyz")
    summary = LatentSummary(
        statistics=LatentStatistics(mean=tuple(mean.tolist()), std=tuple(std.tolist())),
        center=(x, y, z),
        scale=float(clips["scale"].median()),
        num_clips=len(clips),
        encoding=encodings[shards[0]],
        shards={shard: shard_fingerprint(folder, shard) or "" for shard in shards},
    )
    write_json(folder / STATISTICS_FILE, recorded(asdict(summary)))
    return summary


def _shard_encoding(folder: Path, shard: str) -> LatentEncoding:
    """Settings that a shard was encoded with."""
    with open_shard(folder, shard) as file:
        text = (file.metadata() or {}).get("encoding", "{}")
    path = folder / f"{shard}.safetensors"
    try:
        return LatentEncoding(**renamed_recipe(json.loads(text), source=path))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected the settings of an encoding, got {text:.80}") from error
