"""Model presets: location, size and sampling settings of a base model."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from fourdnex.io.files import atomic_path, read_json, sha256_file
from fourdnex.model.sampling import SamplingSettings
from fourdnex.pretrained import pretrained

_TINY, _NARROW = 256, 1024  # the smallest published Wan transformer is 1,536 wide
_LARGE = 2**26  # bytes; digests of larger files are cached
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A base model in the Diffusers folder layout, with its size and default settings."""

    name: str
    location: str
    """Local folder or hub id."""
    num_frames: int
    height: int
    width: int
    fps: float
    sampling: SamplingSettings
    resolution: int
    """Default max longer side, in pixels, of scenes lifted to the resolution of their photograph."""
    depth_network: str | None = None
    """Default depth network for adapters that need first-frame point maps."""

    @property
    def is_local(self) -> bool:
        """Whether `location` is a local folder."""
        return Path(self.location).is_dir()


def _tiny(location: str | None = None) -> Preset:
    """The tiny base, shipped with this repository."""
    return Preset(
        name="tiny",
        location=location or str(pretrained("fourdnex-tiny")),
        num_frames=17,
        height=64,
        width=96,
        fps=8.0,
        # Errors of a small model depend on the noise, and averaging reduces them (test-time ensembling as in
        # Marigold, Ke et al., CVPR 2024).
        sampling=SamplingSettings(num_inference_steps=2, guidance_scale=1.0, ensemble_size=4),
        resolution=768,
        depth_network="tiny",
    )


def _small(location: str) -> Preset:
    """The base trained by `fourdnex.pretraining.small`."""
    return replace(_tiny(location), name="small", num_frames=25, height=128, width=192)


def _wan_14b() -> Preset:
    """Wan 2.1 I2V 14B 480P."""
    return Preset(
        name="wan2.1-i2v-14b-480p",
        location="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        num_frames=49,
        height=480,
        width=720,
        fps=24.0,
        sampling=SamplingSettings(),
        resolution=1440,
    )


def _wan_fun_1_3b() -> Preset:
    """Wan 2.1 Fun 1.3B InP, in a third-party conversion (see `base_components`)."""
    return replace(_wan_14b(), name="wan2.1-fun-1.3b-inp", location="weizhou03/Wan2.1-Fun-1.3B-InP-Diffusers")


_PRESETS = {"tiny": _tiny, "wan2.1-i2v-14b-480p": _wan_14b, "wan2.1-fun-1.3b-inp": _wan_fun_1_3b}


def get_preset(model: str | Path) -> Preset:
    """Return the preset with the name `model`, or a preset for the local folder `model`.

    The size of a folder's preset follows from the width of its transformer: below 256 that of the tiny preset, below
    1,024 25 frames of 128x192, else that of the large preset.

    Raises:
        ValueError: if it is neither; the message lists the names.
        FileNotFoundError: if the tiny base is missing.
    """
    if str(model) in _PRESETS:
        return _PRESETS[str(model)]()
    folder = Path(model)
    if (folder / "model_index.json").is_file():
        if not (folder / "transformer" / "config.json").is_file():
            raise ValueError(f"model: {folder}: missing transformer/config.json")
        config = read_json(folder / "transformer" / "config.json")
        fields = config if isinstance(config, dict) else {}
        heads, head_dim = fields.get("num_attention_heads"), fields.get("attention_head_dim")
        if not (isinstance(heads, int) and isinstance(head_dim, int)):
            expected = "expected whole numbers num_attention_heads and attention_head_dim"
            raise ValueError(f"model: {folder}: transformer/config.json: {expected}, got {heads!r} and {head_dim!r}")
        width = heads * head_dim
        if width < _NARROW:
            template = _tiny(str(folder)) if width < _TINY else _small(str(folder))
        else:
            template = replace(_wan_14b(), location=str(folder))
        return replace(template, name=folder.name)
    raise ValueError(f"model: expected one of {sorted(_PRESETS)} or a folder with model_index.json, got {str(model)!r}")


@lru_cache(maxsize=8)
def base_digest(location: str) -> str:
    """SHA-256 over the names and contents of a base's weights and configurations; for a hub id, the id itself.

    Excludes the training log in `training/`. Cached per process; digests of large files are cached in the user's cache
    folder by path, size and times.
    """
    folder = Path(location)
    if not folder.is_dir():
        return f"hub:{location}"
    digest = hashlib.sha256()
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
    for path in files:
        name = path.relative_to(folder)
        if name.parts[0] == "training":
            continue
        digest.update(name.as_posix().encode())
        digest.update(path.read_bytes() if path.suffix == ".json" else _file_digest(path))
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    """SHA-256 of a file, cached for large files, whose changes always show in size or times."""
    stat = path.stat()
    if stat.st_size < _LARGE:
        return bytes.fromhex(sha256_file(path))
    key = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
    cached = _cache_folder() / hashlib.sha256(key.encode()).hexdigest()
    if cached.is_file() and re.fullmatch(rb"[0-9a-f]{64}", content := cached.read_bytes()):
        return bytes.fromhex(content.decode())
    digest = sha256_file(path)
    try:
        with atomic_path(cached) as temporary:
            temporary.write_text(digest)
    except OSError as error:
        _LOG.warning("%s: cannot cache the digest of %s (%s)", cached.parent, path, error.strerror)
    return bytes.fromhex(digest)


def _cache_folder() -> Path:
    """Folder of cached digests."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "fourdnex" / "sha256"
