"""A scene with fewer pixels, for what needs no more of them."""

import numpy as np

from fourdnex.scene import Scene4D


def subsample_scene(scene: Scene4D, stride: int) -> Scene4D:
    """The scene with every `stride`-th pixel of every `stride`-th row: the same points, fewer of them.

    Tracks, which name pixels, are left out.
    """
    if stride <= 1:
        return scene
    every = np.s_[:, ::stride, ::stride]
    lens = scene.intrinsics.astype(np.float64)
    lens[:2] /= stride
    return Scene4D(
        rgb=scene.rgb[every],
        depth=scene.depth[every],
        intrinsics=lens,
        camera_to_world=scene.camera_to_world,
        confidence=None if scene.confidence is None else scene.confidence[every],
        origin=None if scene.origin is None else scene.origin[every],
        fps=scene.fps,
        provenance=scene.provenance,
        name=scene.name,
    )


def subsampling_stride(height: int, width: int, *, max_pixels: int) -> int:
    """The smallest stride over rows and columns that leaves at most `max_pixels` of a frame."""
    stride = 1
    while -(-height // stride) * -(-width // stride) > max_pixels:
        stride += 1
    return stride
