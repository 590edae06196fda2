"""A scene in the browser: coloured points that move in time, the cameras, and a hand on both."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.rendering import scene_pivot
from fourdnex.scene import Scene4D

if TYPE_CHECKING:
    import viser

MAX_POINTS = 4_000_000
"""Over all frames, so that a browser holds them; of larger scenes an even share of the points is shown."""

_GREY, _ORANGE = (150, 150, 150), (240, 130, 30)


def view(scene_dir: str | os.PathLike[str], *, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve a scene to browsers until Ctrl-C.

    Args:
        scene_dir: folder written by `Scene4D.save`.
        host: address to listen on; "0.0.0.0" lets other machines in.
        port: the next free one is taken when it is busy.

    Raises:
        FileNotFoundError: there is no scene.
        ValueError: the scene is damaged, or viser is not installed.
    """
    scene = Scene4D.load(scene_dir)
    server = _server(host, port)
    player = ScenePlayer(server, scene, title=scene.name or Path(scene_dir).name)
    print(f"http://{host}:{server.get_port()}  (Ctrl-C ends)")
    try:
        while True:
            player.step()
            time.sleep(1 / player.fps)
    finally:
        server.stop()


class ScenePlayer:
    """The scene's nodes on a viser server, and the controls that choose what is seen of them."""

    def __init__(self, server: "viser.ViserServer", scene: Scene4D, *, title: str) -> None:
        self.server, self.scene = server, scene
        self.spacing = _pixel_spacing(scene)
        self._clouds: list[Any] = []
        self._frusta: list[Any] = []
        _set_first_view(server, scene)
        with server.atomic():
            self._add_cameras()
            self._add_controls(title)
            self._add_clouds()
            self.show(0)

    @property
    def frame(self) -> int:
        """The frame on show."""
        return int(self._slider.value)

    @property
    def fps(self) -> float:
        return float(self._speed.value)

    def step(self) -> None:
        """Go on by one frame if the scene is playing, from the last to the first."""
        if self._playing.value and self.scene.num_frames > 1:
            self._slider.value = (self.frame + 1) % self.scene.num_frames

    def show(self, frame: int) -> None:
        """Show the points and the camera of `frame` and of no other."""
        with self.server.atomic():
            for t, (cloud, frustum) in enumerate(zip(self._clouds, self._frusta, strict=True)):
                cloud.visible = t == frame
                frustum.color = _ORANGE if t == frame else _GREY

    def _add_clouds(self) -> None:
        stride = max(1, -(-self.scene.depth.size // MAX_POINTS))
        least = float(self._confidence.value) if self._confidence is not None else 0.0
        self._clouds = []
        for t in range(self.scene.num_frames):
            xyz, rgb = self.scene.points(t, least)
            cloud = self.server.scene.add_point_cloud(
                f"/points/{t:04d}",
                xyz[::stride],
                rgb[::stride],
                point_size=self.spacing * float(self._size.value),
                point_shape="circle",
                point_shading="flat",
                precision="float32",
                visible=False,
            )
            self._clouds.append(cloud)

    def _add_cameras(self) -> None:
        from scipy.spatial.transform import Rotation

        scene, k = self.scene, self.scene.intrinsics
        size = 0.04 * _typical_depth(scene)
        for t, pose in enumerate(scene.camera_to_world):
            x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
            frustum = self.server.scene.add_camera_frustum(
                f"/cameras/{t:04d}",
                fov=float(2 * np.arctan(scene.height / 2 / k[1, 1])),
                aspect=float(scene.width / scene.height * k[1, 1] / k[0, 0]),
                scale=size,
                thickness=1.5,
                thickness_units="screen",
                color=_GREY,
                wxyz=(w, x, y, z),
                position=pose[:3, 3],
            )
            self._frusta.append(frustum)

    def _add_controls(self, title: str) -> None:
        scene, gui = self.scene, self.server.gui
        gui.add_markdown(f"**{title}**\n\n{_about(scene)}")
        last = scene.num_frames - 1
        self._slider = gui.add_slider("frame", 0, max(last, 1), 1, 0, disabled=last == 0)
        self._playing = gui.add_checkbox("play", last > 0)
        self._speed = gui.add_slider("frames a second", 1.0, 60.0, 1.0, float(np.clip(round(scene.fps), 1, 60)))
        self._size = gui.add_slider("point size", 0.2, 4.0, 0.1, 1.2)
        self._confidence = None
        if scene.confidence is not None:
            self._confidence = gui.add_slider("least confidence", 0.0, 1.0, 0.05, 0.0)
            self._confidence.on_update(lambda _: self._rebuild())
        cameras = gui.add_checkbox("cameras", True)
        reset = gui.add_button("first view")
        self._slider.on_update(lambda _: self.show(min(self.frame, last)))
        self._size.on_update(lambda _: self._resize())
        cameras.on_update(lambda _: self._show_cameras(cameras.value))
        reset.on_click(lambda event: _move_to_first_view(event.client, scene))

    def _rebuild(self) -> None:
        with self.server.atomic():
            self._add_clouds()
            self.show(self.frame)

    def _resize(self) -> None:
        with self.server.atomic():
            for cloud in self._clouds:
                cloud.point_size = self.spacing * float(self._size.value)

    def _show_cameras(self, visible: bool) -> None:
        with self.server.atomic():
            for frustum in self._frusta:
                frustum.visible = visible


def first_view(scene: Scene4D) -> tuple[np.ndarray, np.ndarray]:
    """Where to look from, and at what, in the scene's world: from behind, above and beside the first camera."""
    pose = scene.camera_to_world[0].astype(np.float64)
    right, down, forward = pose[:3, 0], pose[:3, 1], pose[:3, 2]
    depth = _typical_depth(scene)
    return pose[:3, 3] + depth * (0.25 * right - 0.2 * down - 0.3 * forward), scene_pivot(scene)


def _server(host: str, port: int) -> "viser.ViserServer":
    try:
        import viser
    except ModuleNotFoundError as error:
        raise ValueError("the viewer needs viser: pip install 'fourdnex[viewer]'") from error
    return viser.ViserServer(host=host, port=port, label="fourdnex", verbose=False)


def _set_first_view(server: "viser.ViserServer", scene: Scene4D) -> None:
    """The browser's default looks past the scene, with another axis up."""
    down = scene.camera_to_world[0, :3, 1]
    server.scene.set_up_direction(tuple(float(value) for value in -down))
    eye, target = first_view(scene)
    camera = server.initial_camera
    camera.up, camera.position, camera.look_at = tuple(-down), tuple(eye), tuple(target)
    depth = _typical_depth(scene)
    camera.near, camera.far = 0.01 * depth, 1000 * depth


def _move_to_first_view(client: Any, scene: Scene4D) -> None:
    if client is not None:
        client.camera.position, client.camera.look_at = first_view(scene)


def _about(scene: Scene4D) -> str:
    known = scene.provenance
    lines = [f"{scene.num_frames} frames of {scene.width} x {scene.height}"]
    lines += [f"{key}: `{str(known[key])[:16]}`" for key in ("model", "adapter_digest", "picture") if known.get(key)]
    return "\n\n".join(lines)


def _typical_depth(scene: Scene4D) -> float:
    valid = scene.depth[np.isfinite(scene.depth)]
    return float(np.median(valid)) if valid.size else 1.0


def _pixel_spacing(scene: Scene4D) -> float:
    """What one pixel covers at the typical depth, in the world's units."""
    return _typical_depth(scene) / float(scene.intrinsics[0, 0])
