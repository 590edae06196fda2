"""Where a collection's first point maps come from, a folder of files or a depth network, and what scenes keep of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fourdnex.io.files import sha256_file

if TYPE_CHECKING:
    from fourdnex.annotation.base import Annotator
    from fourdnex.generation.first_frame_geometry import Start


def found_by(
    model: str,
    adapter: str | os.PathLike[str] | None,
    starts: str | os.PathLike[str] | None,
    depth_network: str | os.PathLike[str] | None,
) -> str | os.PathLike[str] | None:
    """The depth network that finds the first point maps; None where they are given, or none are asked for."""
    from fourdnex.generation.first_frame_geometry import default_network

    if starts is not None:
        if depth_network is not None:
            raise ValueError(f"depth_network: expected no starts beside it, got {starts}")
        return None
    return depth_network or default_network(model, None if adapter is None else Path(adapter))


def start_source(
    starts: str | os.PathLike[str] | None, network: str | os.PathLike[str] | None
) -> Callable[[Sequence[Path]], list[Start] | Annotator | None]:
    """What gives the first point maps of a batch of images, by their paths within the collection."""
    if network is not None:
        from fourdnex.annotation.depth_network import DepthNetwork

        finder = DepthNetwork(network)
        return lambda images: finder
    return lambda images: None if starts is None else [start_file(starts, image) for image in images]


def identity_of(network: str | os.PathLike[str] | None) -> dict[str, str]:
    """What all scenes depend on, if a network finds their first point maps."""
    if network is None:
        return {}
    from fourdnex.annotation.depth_network import network_identity

    return {"start_by": network_identity(network)}


def start_file(starts: str | os.PathLike[str], image: Path) -> Path:
    """The file of an image's first point map, by the image's path within the collection."""
    return Path(starts) / image.with_suffix(".npy") if Path(starts).is_dir() else Path(starts)


def start_digest(starts: str | os.PathLike[str] | None, image: Path) -> dict[str, str | None]:
    """What a scene depends on beside its image, if first point maps are given; None: there is none for it."""
    if starts is None:
        return {}
    file = start_file(starts, image)
    return {"start_sha256": sha256_file(file) if file.is_file() else None}
