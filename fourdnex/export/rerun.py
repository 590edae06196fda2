"""Rerun recordings: points, cameras, images and depth on one timeline, opened by `rerun file.rrd`."""

import os
from typing import Any

import numpy as np

from fourdnex.export.output_paths import file_target
from fourdnex.export.point_tracks import tracked_points
from fourdnex.export.selection import DEFAULT_OPTIONS, ExportOptions, Selection
from fourdnex.extras import require
from fourdnex.io.files import atomic_path
from fourdnex.scene import Scene4D


def export_rerun(
    scene: Scene4D,
    path: str | os.PathLike[str],
    options: ExportOptions = DEFAULT_OPTIONS,
    *,
    jpeg_quality: int = 90,
) -> None:
    """Write one .rrd file with the timelines "frame" and "time" (seconds), atomically.

    Entities: world (OpenCV axes unless `options.up` is set), world/points, world/camera (pose and pinhole) with the
    frame's image, world/camera/depth (16 bit, with stride 1 only), world/path (the camera path) and provenance (JSON).
    The file contains a blueprint with an initial view from behind the first camera. With `options.tracks`, world/points
    holds the same points in the same order in every frame, with radius 0 before a moving point's first frame, and
    world/trails the paths of moving points over the last eight frames.

    Raises:
        ValueError: see `Selection`; `path` does not end in .rrd.
        OSError: the file cannot be written.
        MissingExtraError: rerun-sdk is not installed.
    """
    require("rerun", feature="a Rerun recording")
    # The rerun-sdk package, not this module.
    import rerun as rr

    target = file_target(path, ".rrd")
    selection = Selection(scene, options, up="-y", has_tracks=True)
    tracked = tracked_points(selection) if options.tracks else None
    views = rr.ViewCoordinates
    world = {"-y": views.RIGHT_HAND_Y_DOWN, "y": views.RIGHT_HAND_Y_UP, "z": views.RIGHT_HAND_Z_UP}[selection.up]
    poses = selection.camera_to_world
    unit = _max_depth(selection) / 65535
    recording = rr.RecordingStream("fourdnex")
    stream = rr.binary_stream(recording)
    # Via memory: on a full disk, Rerun's own writer only logs an error or hangs.
    with atomic_path(target) as temporary, open(temporary, "wb") as file:
        recording.send_blueprint(_blueprint(selection), make_active=True, make_default=True)
        recording.send_recording_name(scene.name or "scene")
        recording.log("provenance", rr.TextDocument(selection.provenance), static=True)
        recording.log("world", world, static=True)
        if scene.num_frames > 1:
            recording.log("world/path", rr.LineStrips3D([poses[:, :3, 3]]), static=True)
        recording.log(
            "world/camera",
            rr.Pinhole(
                image_from_camera=scene.intrinsics,
                resolution=[scene.width, scene.height],
                camera_xyz=rr.ViewCoordinates.RDF,
                image_plane_distance=0.2 * _typical_depth(selection),
            ),
            static=True,
        )
        for t, pose in enumerate(poses):
            recording.set_time("frame", sequence=t)
            recording.set_time("time", duration=t / scene.fps)
            if tracked is None:
                cloud = selection.points(t)
                radii = 0.5 * selection.diameters(t, cloud)
                recording.log("world/points", rr.Points3D(cloud.xyz, colors=cloud.rgb, radii=radii))
            else:
                radii = np.where(tracked.shown[:, t], 0.5 * tracked.diameters, 0)
                recording.log("world/points", rr.Points3D(tracked.xyz[:, t], colors=tracked.tracks.rgb, radii=radii))
                paths, colors = tracked.trails(t)
                recording.log("world/trails", rr.LineStrips3D(paths, colors=colors))
            recording.log("world/camera", rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
            recording.log("world/camera", rr.Image(scene.rgb[t]).compress(jpeg_quality=jpeg_quality))
            if selection.stride == 1:  # the depth image shares the camera, and so the size, of the image
                codes = np.nan_to_num(np.round(selection.depth(t) / unit), nan=0.0).astype(np.uint16)
                recording.log("world/camera/depth", rr.DepthImage(codes, meter=1 / unit))
        recording.flush()
        file.write(stream.read() or b"")
        recording.disconnect()


def _blueprint(selection: Selection) -> Any:
    """The viewer's layout: the 3D scene beside image and depth."""
    import rerun.blueprint as rrb

    distance = _typical_depth(selection)
    first = selection.camera_to_world[0]

    def in_first_camera(x: float, y: float, z: float) -> np.ndarray:
        """World coordinates of a point in the first camera's frame, in units of the typical depth."""
        return first[:3, :3] @ np.array([x, y, z]) * distance + first[:3, 3]

    view = rrb.Spatial3DView(
        origin="world",
        # Rerun would draw the depth image as a second point cloud.
        contents=["+ $origin/**", "- world/camera/depth"],
        name="scene",
        eye_controls=rrb.EyeControls3D(
            position=in_first_camera(0.25, -0.2, -0.5), look_target=in_first_camera(0, 0, 1), eye_up=-first[:3, 1]
        ),
    )
    image = rrb.Spatial2DView(origin="world/camera", contents="$origin", name="image")
    panels = [image]
    if selection.stride == 1:
        panels.append(rrb.Spatial2DView(origin="world/camera/depth", contents="$origin", name="depth"))
    return rrb.Blueprint(rrb.Horizontal(view, rrb.Vertical(*panels), column_shares=[3, 1]), collapse_panels=True)


def _typical_depth(selection: Selection) -> float:
    """Median depth of the first frame, in exported units."""
    depth = selection.scene.depth[0][np.isfinite(selection.scene.depth[0])]
    return selection.options.scale * (float(np.median(depth)) if len(depth) else 1.0)


def _max_depth(selection: Selection) -> float:
    """Maximum depth over all frames, in exported units."""
    return max(float(np.nanmax(selection.depth(t), initial=0.0)) for t in range(selection.scene.num_frames))
