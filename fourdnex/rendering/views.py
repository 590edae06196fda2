"""Pictures of a scene from new views, as they are: holes stay holes. See `novel_views` for filled ones."""

import numpy as np

from fourdnex.rendering.camera_path import CameraPath
from fourdnex.rendering.splat import Splat
from fourdnex.rendering.surface import Surface
from fourdnex.scene import Scene4D

WHITE = (255, 255, 255)


def render_frame(
    scene: Scene4D,
    t: int,
    camera_to_world: np.ndarray,
    *,
    intrinsics: np.ndarray | None = None,
    zoom: float = 1.0,
    min_confidence: float = 0.0,
    background: tuple[int, int, int] = WHITE,
    device: str = "cpu",
) -> Splat:
    """View of the point cloud at frame `t` from a camera [4, 4].

    From the frame's own camera this is the frame itself, but for pixels that float at depth edges.

    Args:
        intrinsics: [3, 3] in pixels of the scene's frames; the scene's own lens by default.
        zoom: size of the picture, in sizes of the scene's frames.
    """
    surface = Surface(scene, t, zoom=zoom, min_confidence=min_confidence, device=device)
    lens = scene.intrinsics if intrinsics is None else intrinsics
    image, depth = surface.look(camera_to_world, lens, background)
    return Splat(image.cpu().numpy(), depth.cpu().numpy())


def render_video(
    scene: Scene4D,
    cameras: np.ndarray | CameraPath,
    *,
    frames: np.ndarray | None = None,
    zoom: float = 1.0,
    min_confidence: float = 0.0,
    background: tuple[int, int, int] = WHITE,
    device: str = "cpu",
) -> np.ndarray:
    """Novel-view video [N, H, W, 3] uint8 along a path, or along cameras [N, 4, 4] with the scene's lens.

    Args:
        frames: [N] frame of the scene for each camera; by default the path's times, or from the first to the last.

    Raises:
        ValueError: wrong shape of `cameras` or `frames`.
    """
    lenses = cameras.intrinsics if isinstance(cameras, CameraPath) else None
    poses = cameras.camera_to_world if isinstance(cameras, CameraPath) else cameras
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or len(poses) == 0:
        raise ValueError(f"cameras: expected [N, 4, 4], got {poses.shape}")
    if frames is None:
        even = np.round(np.linspace(0, scene.num_frames - 1, len(poses))).astype(int)
        frames = cameras.frames(scene.num_frames) if isinstance(cameras, CameraPath) else even
    if frames.shape != (len(poses),):
        raise ValueError(f"frames: expected one for each of {len(poses)} cameras, got shape {frames.shape}")
    images, surface, shown = [], None, -1
    for view, t in enumerate(frames.tolist()):
        if surface is None or t != shown:
            surface, shown = Surface(scene, t, zoom=zoom, min_confidence=min_confidence, device=device), t
        lens = scene.intrinsics if lenses is None else lenses[view]
        images.append(surface.look(poses[view], lens, background)[0].cpu().numpy())
    return np.stack(images)
