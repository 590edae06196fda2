"""Point tracking through all frames of a scene."""

import numpy as np

from fourdnex.geometry.cameras import project
from fourdnex.motion.moving_points import MovingPoints
from fourdnex.motion.region_growing import moving_region
from fourdnex.motion.segmentation import depth_tolerance
from fourdnex.motion.static_fusion import fuse_static_points
from fourdnex.motion.visibility import Visibility, nearest_pixels
from fourdnex.scene import Scene4D
from fourdnex.tracks.tracks import Tracks


def track_scene(scene: Scene4D, *, stride: int = 1, region: np.ndarray | None = None) -> Tracks:
    """Track every valid pixel of the first frame, and pixels that come into view later, through all frames.

    Tracks that start in the first frame come first, one per valid pixel, in row-major order. In later frames, tracks
    start in areas of at least 3 x 3 pixels without a visible track.

    A static point has one position, the mean over the frames that observe it. Moving points belong to bodies that move
    rigidly from one frame to the next, fitted to optical flow that passes the forward-backward check and agrees in
    color and depth. Occluded points move with their body; an occluded body continues its last motion with decaying
    velocity. A point is visible if it is inside of the image and not occluded by the frame's depth.

    Args:
        stride: stride over rows and columns; time and memory decrease with its square.
        region: [T, H, W] bool, the scene's `moving_region` if it is computed already.

    Raises:
        ValueError: `stride` is below 1.
    """
    if stride < 1:
        raise ValueError(f"stride: expected at least 1, got {stride}")
    return _Tracker(scene, stride, moving_region(scene) if region is None else region).run()


class _Tracker:
    """State of the tracking of one scene."""

    def __init__(self, scene: Scene4D, stride: int, region: np.ndarray) -> None:
        self._scene, self._stride = scene, stride
        self._region, self._tolerance = region, depth_tolerance(scene)
        self._visibility = Visibility(scene, self._tolerance)
        self._moving = MovingPoints(scene, self._region, self._visibility)
        self._static_xyz: list[np.ndarray] = []  # static points per first frame: [N, 3]
        self._static_visible: list[np.ndarray] = []  # [N, T]
        self._starts: list[tuple[np.ndarray, np.ndarray]] = []  # pixels of static and moving points per first frame
        self._motion: list[tuple[np.ndarray, np.ndarray]] = []  # positions [N, 3] and visibility [N] per frame

    def run(self) -> Tracks:
        """Track through all frames."""
        for t in range(self._scene.num_frames):
            if t > 0:
                self._moving.advance(t)
            self._start(t)
            self._motion.append((self._moving.xyz, self._moving.visible))
        return self._tracks()

    def _start(self, t: int) -> None:
        """Start tracks in the uncovered areas of frame `t`."""
        scene = self._scene
        pixels = np.flatnonzero(np.isfinite(scene.depth[t]) & self._uncovered(t))
        moves = self._region[t].reshape(-1)[pixels]
        static, moving = pixels[~moves], pixels[moves]
        xyz = fuse_static_points(scene, static, t, self._tolerance)
        rgb = scene.rgb[t].reshape(-1, 3)[static].astype(np.int16)
        visible = np.zeros((len(static), scene.num_frames), bool)
        visible[:, t] = True
        for later in range(t + 1, scene.num_frames):
            visible[:, later] = self._visibility.test(xyz, rgb, later)[0]
        self._static_xyz.append(xyz)
        self._static_visible.append(visible)
        self._moving.start(moving, t)
        self._starts.append((static, moving))

    def _uncovered(self, t: int) -> np.ndarray:
        """Pixels [H, W] of the stride's grid in areas of at least 3 x 3 grid pixels without a visible track."""
        import cv2

        height, width, stride = self._scene.height, self._scene.width, self._stride
        is_empty = np.ones((-(-height // stride), -(-width // stride)), np.uint8)
        static = [xyz[visible[:, t]] for xyz, visible in zip(self._static_xyz, self._static_visible, strict=True)]
        points = np.concatenate([*static, self._moving.xyz[self._moving.visible]])
        pixels, depth = project(points[None], self._scene.intrinsics, self._scene.camera_to_world[t][None])
        inside, rows, columns, _ = nearest_pixels(pixels[0], depth[0], height, width)
        is_empty[rows[inside] // stride, columns[inside] // stride] = 0
        uncovered = np.zeros((height, width), bool)
        uncovered[::stride, ::stride] = cv2.morphologyEx(is_empty, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
        return uncovered

    def _tracks(self) -> Tracks:
        """The tracks, ordered by first frame and pixel."""
        scene = self._scene
        counts = np.array([[len(pixels) for pixels in pair] for pair in self._starts])  # [T, 2], static and moving
        moves = np.repeat(np.tile([False, True], scene.num_frames), counts.reshape(-1))
        first = np.repeat(np.arange(scene.num_frames), counts.sum(axis=1))
        pixels = np.concatenate([pixels for pair in self._starts for pixels in pair])
        positions = np.full((len(moves), scene.num_frames, 3), np.nan, np.float32)
        visible = np.zeros(positions.shape[:2], bool)
        static, moving = np.flatnonzero(~moves), np.flatnonzero(moves)
        static_xyz, static_visible = np.concatenate(self._static_xyz), np.concatenate(self._static_visible)
        for t, (xyz, moving_visible) in enumerate(self._motion):
            has_started = first[static] <= t
            positions[static[has_started], t] = static_xyz[has_started]
            visible[static[has_started], t] = static_visible[has_started, t]
            positions[moving[: len(xyz)], t] = xyz
            visible[moving[: len(xyz)], t] = moving_visible
        order = np.lexsort((pixels, first))
        pixel = np.stack(np.divmod(pixels, scene.width), axis=1)
        return Tracks(
            positions=positions[order],
            visible=visible[order],
            first_frame=first[order],
            pixel=pixel[order],
            rgb=scene.rgb[first, pixel[:, 0], pixel[:, 1]][order],
            moves=moves[order],
        )
