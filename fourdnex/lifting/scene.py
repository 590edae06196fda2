"""Lifts a generated scene to the resolution of its photograph."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from fourdnex.cores import available_cores
from fourdnex.lifting.blending import LiftedFrame, ModelFrame
from fourdnex.lifting.depth import upsample_depth
from fourdnex.lifting.motion import FirstFrameMotion
from fourdnex.lifting.surfaces import remove_color_bleeding
from fourdnex.lifting.warping import FirstSurface
from fourdnex.motion import sparse_tracks
from fourdnex.motion.region_growing import moving_region
from fourdnex.rendering.surface import scaled_intrinsics
from fourdnex.scene import Origin, Scene4D
from fourdnex.tracks import Tracks
from fourdnex.tracks.tracks import as_static

CAMERA_ONLY_MISMATCH_FACTOR = 2.0
"""Factor on the mismatch of the model's frames with the photograph if object motion was not requested."""
CONFIDENCE = {Origin.NONE: 0.0, Origin.PHOTOGRAPH: 1.0, Origin.MODEL: 0.75, Origin.FILLED: 0.25}
"""Factor on the confidence of a pixel by its origin."""


def lift_scene(
    scene: Scene4D,
    photograph: np.ndarray,
    *,
    tracks: Tracks | None = None,
    object_motion: bool = True,
    device: str = "cpu",
) -> Scene4D:
    """Lift a scene to the resolution of its photograph.

    The depth of the first frame is upsampled along the photograph's edges (`upsample_depth`). The photograph's points
    move with the tracks and are warped to each frame's camera. Where the model's frame is consistent with them in depth
    and color, the lifted frame has the photograph's color and the first frame's depth. Elsewhere it has the model's
    frame with corrected tone. If the model's frames do not resemble the photograph, only the cameras are used: all
    points are static, and disoccluded regions are inpainted.

    Args:
        scene: [T, h, w], with the photograph as its first frame.
        photograph: [H, W, 3] uint8, at least as large as the scene's frames, with the same borders.
        tracks: of the scene, with any stride; None computes `sparse_tracks`.
        object_motion: whether object motion was requested from the model. If only camera motion was, its frames must
            resemble the photograph more closely for object motion to be used.
        device: torch device.

    Returns:
        A scene of [T, H, W] with the same cameras, and with `origin`.

    Raises:
        ValueError: the photograph has the wrong shape or type, or is smaller than the scene's frames.
    """
    import torch

    height, width = _checked_size(photograph, scene)
    moving: np.ndarray | None = None
    if tracks is None:
        moving = moving_region(scene)
        tracks = sparse_tracks(scene, region=moving)
    zoom = (width / scene.width, height / scene.height)
    intrinsics = scaled_intrinsics(scene.intrinsics, zoom)
    first = upsample_depth(scene.depth[0], photograph, device=device)
    surface = FirstSurface(torch.from_numpy(first).to(device), intrinsics, scene.camera_to_world[0])
    mismatch_factor = 1.0 if object_motion else CAMERA_ONLY_MISMATCH_FACTOR
    none_moving = np.zeros(scene.depth.shape, bool)
    middle = scene.num_frames // 2
    middle_frame = ModelFrame(scene, middle, (height, width), none_moving[0], mismatch_factor=mismatch_factor)
    if not middle_frame.resembles(surface.warp_to(scene.camera_to_world[middle]), photograph):
        tracks = as_static(tracks)
    motion = FirstFrameMotion(tracks, scene.depth[0], surface.points)
    if not motion.count:
        region = none_moving
    else:
        region = moving_region(scene) if moving is None else moving
    colors = remove_color_bleeding(photograph, first, width=max(1, round(0.35 * max(zoom))))

    def lift_frame(t: int) -> LiftedFrame:
        """Lift frame `t`."""
        displacement = torch.from_numpy(motion.at(t)).to(device) if motion.count else None
        warped = surface.warp_to(scene.camera_to_world[t], displacement)
        frame = ModelFrame(scene, t, (height, width), region[t], mismatch_factor=mismatch_factor)
        return frame.blend(warped, colors, motion.static)

    with ThreadPoolExecutor(available_cores()) as pool:
        later = list(pool.map(lift_frame, range(1, scene.num_frames)))
    first_origin = np.where(np.isfinite(first), Origin.PHOTOGRAPH, Origin.NONE).astype(np.uint8)
    frames = [LiftedFrame(photograph, first, first_origin), *later]
    rgb, origin = np.stack([frame.rgb for frame in frames]), np.stack([frame.origin for frame in frames])
    return replace(
        scene,
        rgb=rgb,
        depth=np.stack([frame.depth for frame in frames]),
        intrinsics=intrinsics,
        confidence=_confidence(scene, origin),
        origin=origin,
        tracks=_upsample_tracks(tracks, rgb, zoom),
    )


def _upsample_tracks(tracks: Tracks, rgb: np.ndarray, zoom: tuple[float, float]) -> Tracks:
    """The tracks with the pixels at the centers of their coarse pixels in the lifted frames `rgb` [T, H, W, 3]."""
    zoom_x, zoom_y = zoom
    row, column = tracks.pixel.T
    pixel = np.stack([((row + 0.5) * zoom_y).astype(int), ((column + 0.5) * zoom_x).astype(int)], axis=1)
    return replace(tracks, pixel=pixel, rgb=rgb[tracks.first_frame, pixel[:, 0], pixel[:, 1]])


def _checked_size(photograph: np.ndarray, scene: Scene4D) -> tuple[int, int]:
    """Height and width of the photograph, after checks of its shape, type and size."""
    if photograph.ndim != 3 or photograph.shape[-1] != 3 or photograph.dtype != np.uint8:
        raise ValueError(f"photograph: expected [H, W, 3] uint8, got {photograph.shape} {photograph.dtype}")
    height, width = photograph.shape[:2]
    if height < scene.height or width < scene.width:
        expected = f"at least {scene.height} x {scene.width} pixels, the size of the scene's frames"
        raise ValueError(f"photograph: expected {expected}, got {height} x {width}")
    return height, width


def _confidence(scene: Scene4D, origin: np.ndarray) -> np.ndarray:
    """Confidence [T, H, W] float32: the scene's, times the factor of each pixel's origin."""
    import cv2

    factors = np.array([CONFIDENCE[Origin(value)] for value in range(len(Origin))], np.float32)
    out = factors[origin]
    if scene.confidence is not None:
        size = origin.shape[2], origin.shape[1]
        for frame, confidence in zip(out, scene.confidence, strict=True):
            frame *= cv2.resize(confidence, size, interpolation=cv2.INTER_LINEAR)
    return out
