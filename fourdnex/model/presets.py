"""Model presets: where a base model lies, the size it works at, and how it samples."""

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
_LARGE = 2**26  # bytes of a file whose digest is worth keeping
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A base model in the Diffusers folder layout and its working size."""

    name: str
    location: str
    """A local folder or a hub id."""
    num_frames: int
    height: int
    width: int
    fps: float
    sampling: SamplingSettings
    resolution: int
    """Longer side of scenes that are lifted to their photographs, in pixels, unless told otherwise."""
    depth_network: str | None = None
    """What finds the first point maps for adapters with a given start, if nothing else is said."""

    @property
    def is_local(self) -> bool:
        return Path(self.location).is_dir()


def _tiny(location: str | None = None) -> Preset:
    return Preset(
        name="tiny",
        location=location or str(pretrained("fourdnex-tiny")),
        num_frames=17,
        height=64,
        width=96,
        fps=8.0,
        # A small model errs differently from each noise; the mean of a few errs less (test-time ensembling as in
        # Marigold, Ke et al., CVPR 2024).
        sampling=SamplingSettings(num_inference_steps=2, guidance_scale=1.0, ensemble_size=4),
        resolution=768,
        depth_network="tiny",
    )


def _small(location: str) -> Preset:
    """What `fourdnex.pretraining.small` makes."""
    return replace(_tiny(location), name="small", num_frames=25, height=128, width=192)


def _wan_14b() -> Preset:
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
    """A third-party conversion: the base is published in Wan's own layout alone (see `published`)."""
    return replace(_wan_14b(), name="wan2.1-fun-1.3b-inp", location="weizhou03/Wan2.1-Fun-1.3B-InP-Diffusers")


_PRESETS = {"tiny": _tiny, "wan2.1-i2v-14b-480p": _wan_14b, "wan2.1-fun-1.3b-inp": _wan_fun_1_3b}


def get_preset(model: str | Path) -> Preset:
    """The preset called `model`, or one for the local folder `model`.

    A folder works at the size that the width of its transformer stands for: below 256 the tiny preset's, below 1,024
    25 frames of 128x192, else the large preset's.

    Raises:
        ValueError: if it is neither; the message lists the names.
        FileNotFoundError: if the tiny base is not where it should be.
    """
    if str(model) in _PRESETS:
        return _PRESETS[str(model)]()
    folder = Path(model)
    if (folder / "model_index.json").is_file():
        if not (folder / "transformer" / "config.json").is_file():
            raise ValueError(f"model: {folder}: missing transformer/config.json")
        config = read_json(folder / "transformer" / "config.json")
        width = config["num_attention_heads"] * config["attention_head_dim"]
        if width < _NARROW:
            like = _tiny(str(folder)) if width < _TINY else _small(str(folder))
        else:
            like = replace(_wan_14b(), location=str(folder))
        return replace(like, name=folder.name)
    raise ValueError(f"model: expected one of {sorted(_PRESETS)} or a folder with model_index.json, got {str(model)!r}")


@lru_cache(maxsize=8)
def base_digest(location: str) -> str:
    """Sha256 over the names and contents of a base's weights and configurations; a hub id stands for itself.

    The log of its own training, `training/`, does not count. Computed once a process; digests of large files are kept
    in the user's cache folder, by their path, size and times.
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
    """Sha256 of a file; a large one's is kept, and no change escapes it: reading outlasts a tick of file times."""
    found = path.stat()
    if found.st_size < _LARGE:
        return bytes.fromhex(sha256_file(path))
    known = f"{path.resolve()}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}"
    kept = _cache() / hashlib.sha256(known.encode()).hexdigest()
    if kept.is_file() and re.fullmatch(rb"[0-9a-f]{64}", content := kept.read_bytes()):
        return bytes.fromhex(content.decode())
    digest = sha256_file(path)
    try:
        with atomic_path(kept) as temporary:
            temporary.write_text(digest)
    except OSError as error:
        _LOG.warning("%s: the digest of %s cannot be kept (%s)", kept.parent, path, error.strerror)
    return bytes.fromhex(digest)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "fourdnex" / "sha256"
