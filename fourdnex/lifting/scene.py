"""A generated scene at the resolution of the photograph that it was made of."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from fourdnex.cores import available_cores
from fourdnex.lifting.carry import FirstSurface
from fourdnex.lifting.depth import upsample_depth
from fourdnex.lifting.evidence import LiftedFrame, ModelFrame
from fourdnex.lifting.motion import FirstFrameMotion
from fourdnex.lifting.surfaces import without_rims
from fourdnex.motion import sparse_tracks
from fourdnex.motion.region_growing import moving_region
from fourdnex.rendering.surface import scaled_intrinsics
from fourdnex.scene import Origin, Scene4D
from fourdnex.tracks import Tracks
from fourdnex.tracks.tracks import as_static

DOUBT = 2.0
"""How much more a model's frames must resemble the photograph that was not asked to move anything."""
CONFIDENCE = {Origin.NONE: 0.0, Origin.PHOTOGRAPH: 1.0, Origin.MODEL: 0.75, Origin.FILLED: 0.25}
"""What the confidence of a pixel is multiplied by, by where it comes from."""


def lift_scene(
    scene: Scene4D,
    photograph: np.ndarray,
    *,
    tracks: Tracks | None = None,
    asked_to_move: bool = True,
    device: str = "cpu",
) -> Scene4D:
    """The scene with the photograph's own detail.

    Depth of the first frame moves to the photograph's edges (`upsample_depth`). The photograph's points are then moved
    along the tracks and seen by each frame's camera; where the model's frame confirms them, in depth and in color, they
    give it the photograph's color and the first frame's depth. Elsewhere the model's frame stays, matched in tone. A
    model whose frames do not resemble the photograph tells of the camera alone: all stands still, and gaps are filled
    from around.

    Args:
        scene: [T, h, w], whose first frame is the photograph.
        photograph: [H, W, 3] uint8, at least as large as the scene's frames; the borders of both coincide.
        tracks: of the scene, with any stride; None: `sparse_tracks`.
        asked_to_move: whether the model was told of things, not of the camera alone. If not, its frames must resemble
            the photograph more to be believed that something moves.
        device: of torch.

    Returns:
        A scene of [T, H, W], the same cameras, with `origin`.

    Raises:
        ValueError: the photograph has another shape or type, or is smaller than the scene's frames.
    """
    import torch

    height, width = _checked(photograph, scene)
    tracks = tracks if tracks is not None else sparse_tracks(scene)
    zoom = (width / scene.width, height / scene.height)
    intrinsics = scaled_intrinsics(scene.intrinsics, zoom)
    first = upsample_depth(scene.depth[0], photograph, device=device)
    surface = FirstSurface(torch.from_numpy(first).to(device), intrinsics, scene.camera_to_world[0])
    doubt = 1.0 if asked_to_move else DOUBT
    nothing = np.zeros(scene.depth.shape, bool)
    middle = scene.num_frames // 2
    seen_then = surface.seen_by(scene.camera_to_world[middle])
    familiar = ModelFrame(scene, middle, (height, width), nothing[0], doubt=doubt).resembles(seen_then, photograph)
    if not familiar:
        tracks = as_static(tracks)
    motion = FirstFrameMotion(tracks, scene.depth[0], surface.points)
    moving = moving_region(scene) if motion.count else nothing
    colors = without_rims(photograph, first, width=max(1, round(0.35 * max(zoom))))

    def lifted(t: int) -> LiftedFrame:
        moved = motion.at(t) if motion.count else None
        seen = surface.seen_by(scene.camera_to_world[t], None if moved is None else torch.from_numpy(moved).to(device))
        return ModelFrame(scene, t, (height, width), moving[t], doubt=doubt).with_photograph(seen, colors, motion.still)

    with ThreadPoolExecutor(available_cores()) as pool:
        rest = list(pool.map(lifted, range(1, scene.num_frames)))
    whole = np.where(np.isfinite(first), Origin.PHOTOGRAPH, Origin.NONE).astype(np.uint8)
    frames = [LiftedFrame(photograph, first, whole), *rest]
    rgb, origin = np.stack([frame.rgb for frame in frames]), np.stack([frame.origin for frame in frames])
    return replace(
        scene,
        rgb=rgb,
        depth=np.stack([frame.depth for frame in frames]),
        intrinsics=intrinsics,
        confidence=_confidence(scene, origin),
        origin=origin,
        tracks=_finer_tracks(tracks, rgb, zoom),
    )


def _finer_tracks(tracks: Tracks, rgb: np.ndarray, zoom: tuple[float, float]) -> Tracks:
    """The tracks of the coarse pixels, at the pixels in their middles of the frames `rgb` [T, H, W, 3]."""
    zoom_x, zoom_y = zoom
    row, column = tracks.pixel.T
    pixel = np.stack([((row + 0.5) * zoom_y).astype(int), ((column + 0.5) * zoom_x).astype(int)], axis=1)
    return replace(tracks, pixel=pixel, rgb=rgb[tracks.first_frame, pixel[:, 0], pixel[:, 1]])


def _checked(photograph: np.ndarray, scene: Scene4D) -> tuple[int, int]:
    if photograph.ndim != 3 or photograph.shape[-1] != 3 or photograph.dtype != np.uint8:
        raise ValueError(f"photograph: expected [H, W, 3] uint8, got {photograph.shape} {photograph.dtype}")
    height, width = photograph.shape[:2]
    if height < scene.height or width < scene.width:
        expected = f"at least {scene.height} x {scene.width} pixels, the scene's"
        raise ValueError(f"photograph: expected {expected}, got {height} x {width}")
    return height, width


def _confidence(scene: Scene4D, origin: np.ndarray) -> np.ndarray:
    """[T, H, W] float32: the scene's own, and how a pixel was come by."""
    import cv2

    shares = np.array([CONFIDENCE[Origin(value)] for value in range(len(Origin))], np.float32)
    out = shares[origin]
    if scene.confidence is not None:
        size = origin.shape[2], origin.shape[1]
        for frame, own in zip(out, scene.confidence, strict=True):
            frame *= cv2.resize(own, size, interpolation=cv2.INTER_LINEAR)
    return out
