"""First-frame geometry: where the first-frame point maps come from that some adapters start from.

An adapter that was trained with `xyz_init="pointmap"` needs a point map of each image. Users pass them as arrays or
files, or name an annotator or a depth network that estimates them. `resolve_geometry` turns any of these into one
`FirstFrameGeometry`, and picks the depth network that comes with the base where nothing is passed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from fourdnex.io.files import sha256_file

if TYPE_CHECKING:
    from fourdnex.annotation.base import ClipAnnotator
    from fourdnex.generation.pointmap_files import PointMapSource
    from fourdnex.model.base import Base
    from fourdnex.model.recipe import Recipe
    from fourdnex.model.sizes import Fit

Key = int | Path
"""Which image: its index in a list, or its path within a collection."""


class FirstFrameGeometry(Protocol):
    """Gives the first-frame point maps of images."""

    @property
    def identity(self) -> dict[str, str]:
        """Provenance that all scenes made with it share."""

    def digest(self, key: Key) -> dict[str, str | None]:
        """Provenance of the scene of one image."""

    def pointmap(self, key: Key, rgb: np.ndarray, fit: Fit, *, name: str) -> np.ndarray:
        """The point map [H, W, 3] float32 of an image, in its camera's frame (OpenCV axes), in any unit.

        Args:
            key: which image.
            rgb: the image at the size of the model's frames, [H, W, 3] uint8.
            fit: how the image is scaled and cropped to that size.
            name: begins error messages.

        Raises:
            FileNotFoundError: there is no file for this image.
            ValueError: there is no usable geometry for this image, with the reason.
        """


class _Geometry:
    """Defaults: no provenance."""

    @property
    def identity(self) -> dict[str, str]:
        """Nothing."""
        return {}

    def digest(self, key: Key) -> dict[str, str | None]:
        """Nothing."""
        return {}


class ListedGeometry(_Geometry):
    """One array or .npy file per image of a list; keys are indices."""

    def __init__(self, sources: Sequence[PointMapSource]) -> None:
        self._sources = list(sources)

    def pointmap(self, key: Key, rgb: np.ndarray, fit: Fit, *, name: str) -> np.ndarray:
        """See `FirstFrameGeometry.pointmap`."""
        from fourdnex.generation.pointmap_files import read_first_pointmap

        return read_first_pointmap(self._sources[cast(int, key)], fit, name=name)


class FolderGeometry(_Geometry):
    """`NAME.npy` for each image `NAME.jpg` of a collection, or one .npy file for one image; keys are relative paths."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def digest(self, key: Key) -> dict[str, str | None]:
        """SHA-256 of the image's file; None if it is missing."""
        file = self._file(key)
        return {"geometry_sha256": sha256_file(file) if file.is_file() else None}

    def pointmap(self, key: Key, rgb: np.ndarray, fit: Fit, *, name: str) -> np.ndarray:
        """See `FirstFrameGeometry.pointmap`."""
        from fourdnex.generation.pointmap_files import read_first_pointmap

        return read_first_pointmap(self._file(key), fit, name=name)

    def _file(self, key: Key) -> Path:
        """The file of an image."""
        return self._path / cast(Path, key).with_suffix(".npy") if self._path.is_dir() else self._path


class EstimatedGeometry(_Geometry):
    """Point maps that an annotator estimates from each image alone."""

    def __init__(self, annotator: ClipAnnotator) -> None:
        self._annotator = annotator

    def pointmap(self, key: Key, rgb: np.ndarray, fit: Fit, *, name: str) -> np.ndarray:
        """See `FirstFrameGeometry.pointmap`."""
        from fourdnex.generation.pointmap_files import estimated_first_pointmap

        return estimated_first_pointmap(self._annotator, rgb, name=name, pixel_aspect=fit.pixel_aspect)


class NetworkGeometry(_Geometry):
    """Point maps that a depth network estimates; it is loaded when the first one is needed."""

    def __init__(self, network: str | os.PathLike[str]) -> None:
        self._network = network

    @cached_property
    def identity(self) -> dict[str, str]:
        """Hub id or digest of the network."""
        from fourdnex.annotation.depth_network import network_identity

        return {"geometry_network": network_identity(self._network)}

    def pointmap(self, key: Key, rgb: np.ndarray, fit: Fit, *, name: str) -> np.ndarray:
        """See `FirstFrameGeometry.pointmap`."""
        return self._estimated.pointmap(key, rgb, fit, name=name)

    @cached_property
    def _estimated(self) -> EstimatedGeometry:
        """The network, loaded."""
        from fourdnex.annotation.depth_network import DepthNetwork

        return EstimatedGeometry(DepthNetwork(self._network))


def resolve_geometry(
    base: Base,
    recipe: Recipe,
    source: str | os.PathLike[str] | None = None,
    depth_network: str | os.PathLike[str] | None = None,
) -> FirstFrameGeometry | None:
    """The first-frame geometry of a collection.

    Args:
        base: whose depth network is used if neither of the others is passed.
        recipe: the adapter's; None is returned if it starts from the sloped plane and nothing is passed.
        source: folder of files, or one file (see `FolderGeometry`).
        depth_network: name, folder, hub id or ONNX file of a network.

    Raises:
        ValueError: both `source` and `depth_network` are passed.
    """
    if source is not None:
        if depth_network is not None:
            raise ValueError(f"depth_network: expected None beside first_frame_geometry {source}, got {depth_network}")
        return FolderGeometry(source)
    network = depth_network or base.depth_network_for(recipe)
    return None if network is None else NetworkGeometry(network)


def listed_geometry(source: Sequence[PointMapSource] | np.ndarray | ClipAnnotator, count: int) -> FirstFrameGeometry:
    """The first-frame geometry of `count` images in a list.

    Args:
        source: a list of arrays and .npy files, an array [count, H, W, 3] of points or [count, H, W] of depth, or an
            annotator.
        count: number of images.

    Raises:
        ValueError: `source` is something else, or has not one entry for each image.
    """
    if isinstance(source, np.ndarray):
        if source.ndim not in (3, 4) or len(source) != count:
            expected = f"[{count}, H, W, 3] or [{count}, H, W], one for each image"
            raise ValueError(f"first_frame_geometry: expected {expected}, got {source.shape}")
        return ListedGeometry(list(source))
    if isinstance(source, str) or not (isinstance(source, Sequence) or hasattr(source, "annotate")):
        expected = "a list or array with one entry for each image, or an annotator"
        raise ValueError(f"first_frame_geometry: expected {expected}, got {source!r}")
    if not isinstance(source, Sequence):
        return EstimatedGeometry(source)
    if len(source) != count:
        raise ValueError(f"first_frame_geometry: expected one for each of {count} images, got {len(source)}")
    for item in source:
        if not isinstance(item, (str, Path, np.ndarray)):
            raise ValueError(f"first_frame_geometry: expected arrays and .npy files, got {item!r}")
    return ListedGeometry(source)
