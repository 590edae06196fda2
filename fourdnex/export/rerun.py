"""Rerun recordings: points, cameras and pictures on one time line, opened by `rerun file.rrd`."""

import os

import numpy as np

from fourdnex.files import atomic_path
from fourdnex.scene import Scene4D


def export_rerun(
    scene: Scene4D, path: str | os.PathLike[str], *, min_confidence: float = 0.0, jpeg_quality: int = 90
) -> None:
    """Write one .rrd with the time lines "frame" and "time" (seconds), whole or not at all.

    Entities: world (OpenCV axes), world/points, world/camera (pose and pinhole) with the frame's picture, and
    world/path, the way of the camera. A layout with a first view from behind the first camera is part of the file.
    """
    # Absolute import of the package, not of this module.
    import rerun as rr

    recording = rr.RecordingStream("fourdnex")
    with atomic_path(path) as temporary:
        recording.save(temporary, default_blueprint=_blueprint(scene))
        recording.send_recording_name(scene.name or "scene")
        recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Y_DOWN, static=True)
        positions = scene.camera_to_world[:, :3, 3]
        if scene.num_frames > 1:
            recording.log("world/path", rr.LineStrips3D([positions]), static=True)
        recording.log(
            "world/camera",
            rr.Pinhole(
                image_from_camera=scene.intrinsics,
                resolution=[scene.width, scene.height],
                camera_xyz=rr.ViewCoordinates.RDF,
                image_plane_distance=0.2 * _typical_depth(scene),
            ),
            static=True,
        )
        for t, pose in enumerate(scene.camera_to_world):
            recording.set_time("frame", sequence=t)
            recording.set_time("time", duration=t / scene.fps)
            xyz, rgb = scene.points(t, min_confidence)
            # Half of what a pixel covers at that depth: the cloud looks closed from its camera.
            depth = (xyz - pose[:3, 3]) @ pose[:3, 2]
            recording.log("world/points", rr.Points3D(xyz, colors=rgb, radii=0.5 * depth / scene.intrinsics[0, 0]))
            recording.log("world/camera", rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
            recording.log("world/camera", rr.Image(scene.rgb[t]).compress(jpeg_quality=jpeg_quality))
        recording.flush()
        recording.disconnect()


def _blueprint(scene: Scene4D):
    import rerun.blueprint as rrb

    distance = _typical_depth(scene)
    first = scene.camera_to_world[0].astype(np.float64)

    def in_first_camera(x: float, y: float, z: float) -> np.ndarray:
        return first[:3, :3] @ np.array([x, y, z]) * distance + first[:3, 3]

    view = rrb.Spatial3DView(
        origin="world",
        name="scene",
        eye_controls=rrb.EyeControls3D(
            position=in_first_camera(0.25, -0.2, -0.5), look_target=in_first_camera(0, 0, 1), eye_up=-first[:3, 1]
        ),
    )
    picture = rrb.Spatial2DView(origin="world/camera", contents="$origin", name="picture")
    return rrb.Blueprint(rrb.Horizontal(view, picture, column_shares=[3, 1]), collapse_panels=True)


def _typical_depth(scene: Scene4D) -> float:
    depth = scene.depth[0][np.isfinite(scene.depth[0])]
    return float(np.median(depth)) if len(depth) else 1.0
