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
    first_frame_geometry: str | os.PathLike[str] | None,
    depth_network: str | os.PathLike[str] | None,
) -> str | os.PathLike[str] | None:
    """The depth network that finds the first point maps; None where they are given, or none are asked for."""
    from fourdnex.generation.first_frame_geometry import default_network

    if first_frame_geometry is not None:
        if depth_network is not None:
            raise ValueError(f"depth_network: expected no first_frame_geometry beside it, got {first_frame_geometry}")
        return None
    return depth_network or default_network(model, None if adapter is None else Path(adapter))


def start_source(
    first_frame_geometry: str | os.PathLike[str] | None, network: str | os.PathLike[str] | None
) -> Callable[[Sequence[Path]], list[Start] | Annotator | None]:
    """What gives the first point maps of a batch of images, by their paths within the collection."""
    if network is not None:
        from fourdnex.annotation.depth_network import DepthNetwork

        finder = DepthNetwork(network)
        return lambda images: finder
    return lambda images: (
        None if first_frame_geometry is None else [start_file(first_frame_geometry, image) for image in images]
    )


def identity_of(network: str | os.PathLike[str] | None) -> dict[str, str]:
    """What all scenes depend on, if a network finds their first point maps."""
    if network is None:
        return {}
    from fourdnex.annotation.depth_network import network_identity

    return {"geometry_network": network_identity(network)}


def start_file(first_frame_geometry: str | os.PathLike[str], image: Path) -> Path:
    """The file of an image's first point map, by the image's path within the collection."""
    return (
        Path(first_frame_geometry) / image.with_suffix(".npy")
        if Path(first_frame_geometry).is_dir()
        else Path(first_frame_geometry)
    )


def start_digest(first_frame_geometry: str | os.PathLike[str] | None, image: Path) -> dict[str, str | None]:
    """What a scene depends on beside its image, if first point maps are given; None: there is none for it."""
    if first_frame_geometry is None:
        return {}
    file = start_file(first_frame_geometry, image)
    return {"geometry_sha256": sha256_file(file) if file.is_file() else None}
