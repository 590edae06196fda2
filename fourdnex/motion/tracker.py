"""From a scene to its tracks."""

import numpy as np

from fourdnex.geometry.cameras import project
from fourdnex.motion.moving_points import MovingPoints
from fourdnex.motion.region_growing import moving_region
from fourdnex.motion.segmentation import depth_tolerance
from fourdnex.motion.static_fusion import fuse_static_points
from fourdnex.motion.visibility import Visibility, nearest_pixels
from fourdnex.scene import Scene4D
from fourdnex.tracks.tracks import Tracks


def track_scene(scene: Scene4D, *, stride: int = 1) -> Tracks:
    """Follow every valid pixel of the first frame, and what comes into view later, through all frames.

    The tracks that start in the first frame come first, one a valid pixel, in row-major order. In later frames tracks
    start where no visible track covers three by three pixels.

    A point that stands still keeps its place in the world, the mean of what the frames have there. Points that move
    belong to bodies, which move rigidly from one frame to the next: by optical flow that agrees there and back and
    with color and depth. What is hidden goes on with its body, and a hidden body as it last moved, slower with each
    frame. A frame sees a point unless it lies outside of the image, or behind what the frame has there.

    Args:
        stride: only every so many rows and columns; time and memory fall with its square.

    Raises:
        ValueError: a stride below 1.
    """
    if stride < 1:
        raise ValueError(f"stride: expected at least 1, got {stride}")
    return _Tracking(scene, stride).run()


class _Tracking:
    def __init__(self, scene: Scene4D, stride: int) -> None:
        self._scene, self._stride = scene, stride
        self._region, self._tolerance = moving_region(scene), depth_tolerance(scene)
        self._visibility = Visibility(scene, self._tolerance)
        self._moving = MovingPoints(scene, self._region, self._visibility)
        self._places: list[np.ndarray] = []  # of still points, per first frame: [N, 3]
        self._seen: list[np.ndarray] = []  # [N, T]
        self._starts: list[tuple[np.ndarray, np.ndarray]] = []  # pixels of still and of moving points per first frame
        self._path: list[tuple[np.ndarray, np.ndarray]] = []  # of moving points per frame: [N, 3] and [N]

    def run(self) -> Tracks:
        for t in range(self._scene.num_frames):
            if t > 0:
                self._moving.advance(t)
            self._start(t)
            self._path.append((self._moving.xyz, self._moving.visible))
        return self._tracks()

    def _start(self, t: int) -> None:
        scene = self._scene
        pixels = np.flatnonzero(np.isfinite(scene.depth[t]) & self._free(t))
        moves = self._region[t].reshape(-1)[pixels]
        still, moving = pixels[~moves], pixels[moves]
        xyz = fuse_static_points(scene, still, t, self._tolerance)
        rgb = scene.rgb[t].reshape(-1, 3)[still].astype(np.int16)
        seen = np.zeros((len(still), scene.num_frames), bool)
        seen[:, t] = True
        for later in range(t + 1, scene.num_frames):
            seen[:, later] = self._visibility.sees(xyz, rgb, later)[0]
        self._places.append(xyz)
        self._seen.append(seen)
        self._moving.start(moving, t)
        self._starts.append((still, moving))

    def _free(self, t: int) -> np.ndarray:
        """Pixels [H, W] of the grid that no visible track covers, in squares of three by three such pixels or more."""
        import cv2

        height, width, stride = self._scene.height, self._scene.width, self._stride
        bare = np.ones((-(-height // stride), -(-width // stride)), np.uint8)
        places = [xyz[seen[:, t]] for xyz, seen in zip(self._places, self._seen, strict=True)]
        points = np.concatenate([*places, self._moving.xyz[self._moving.visible]])
        pixels, depth = project(points[None], self._scene.intrinsics, self._scene.camera_to_world[t][None])
        inside, rows, columns, _ = nearest_pixels(pixels[0], depth[0], height, width)
        bare[rows[inside] // stride, columns[inside] // stride] = 0
        free = np.zeros((height, width), bool)
        free[::stride, ::stride] = cv2.morphologyEx(bare, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
        return free

    def _tracks(self) -> Tracks:
        scene = self._scene
        counts = np.array([[len(part) for part in pair] for pair in self._starts])  # [T, 2], still and moving
        moves = np.repeat(np.tile([False, True], scene.num_frames), counts.reshape(-1))
        first = np.repeat(np.arange(scene.num_frames), counts.sum(axis=1))
        pixels = np.concatenate([part for pair in self._starts for part in pair])
        positions = np.full((len(moves), scene.num_frames, 3), np.nan, np.float32)
        visible = np.zeros(positions.shape[:2], bool)
        still, moving = np.flatnonzero(~moves), np.flatnonzero(moves)
        places, seen = np.concatenate(self._places), np.concatenate(self._seen)
        for t, (xyz, found) in enumerate(self._path):
            begun = first[still] <= t
            positions[still[begun], t] = places[begun]
            visible[still[begun], t] = seen[begun, t]
            positions[moving[: len(xyz)], t] = xyz
            visible[moving[: len(xyz)], t] = found
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
