"""Cameras, point maps, alignment and camera recovery: numpy in, numpy out."""

import warnings
from typing import Any

from fourdnex.geometry.alignment import align_depth_scale, icp, umeyama
from fourdnex.geometry.cameras import invert_pose, pixel_rays, project, relative_to_first, transform_points, unproject
from fourdnex.geometry.pointmaps import Normalization, denormalize_pointmaps, normalize_pointmaps, sloped_plane
from fourdnex.geometry.recovery import CameraRecovery, recover_cameras

__all__ = [
    "CameraRecovery",
    "Normalization",
    "align_depth_scale",
    "denormalize_pointmaps",
    "icp",
    "invert_pose",
    "normalize_pointmaps",
    "pixel_rays",
    "project",
    "recover_cameras",
    "relative_to_first",
    "sloped_plane",
    "transform_points",
    "umeyama",
    "unproject",
]

_DEPRECATED: dict[str, Any] = {
    "Normalisation": Normalization,
    "denormalise_pointmaps": denormalize_pointmaps,
    "normalise_pointmaps": normalize_pointmaps,
}


def __getattr__(name: str) -> Any:
    """Former names, with a DeprecationWarning."""
    if name not in _DEPRECATED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    current = _DEPRECATED[name]
    warnings.warn(f"{__name__}.{name} is deprecated: use {current.__name__}", DeprecationWarning, stacklevel=2)
    return current
