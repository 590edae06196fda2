"""Subsampling of scenes by a pixel stride."""

import numpy as np

from fourdnex.scene import Scene4D


def subsample_scene(scene: Scene4D, stride: int) -> Scene4D:
    """The scene with every `stride`-th pixel of every `stride`-th row: a subset of its points, without tracks."""
    if stride <= 1:
        return scene
    subsample = np.s_[:, ::stride, ::stride]
    intrinsics = scene.intrinsics.astype(np.float64)
    intrinsics[:2] /= stride
    return Scene4D(
        rgb=scene.rgb[subsample],
        depth=scene.depth[subsample],
        intrinsics=intrinsics,
        camera_to_world=scene.camera_to_world,
        confidence=None if scene.confidence is None else scene.confidence[subsample],
        origin=None if scene.origin is None else scene.origin[subsample],
        fps=scene.fps,
        provenance=scene.provenance,
        name=scene.name,
    )


def subsampling_stride(height: int, width: int, *, max_pixels: int) -> int:
    """The smallest stride over rows and columns with at most `max_pixels` per frame."""
    stride = 1
    while -(-height // stride) * -(-width // stride) > max_pixels:
        stride += 1
    return stride
