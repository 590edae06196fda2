"""Pictures for people: contact sheets, the preview of a scene, a scene that turns."""

import os
from collections.abc import Iterator, Sequence

import numpy as np

from fourdnex.geometry.cameras import unproject
from fourdnex.rendering.animation import write_animation
from fourdnex.rendering.camera_path import CameraPath
from fourdnex.rendering.colours import colourise_depth, colourise_points
from fourdnex.rendering.named_paths import named_path
from fourdnex.rendering.surface import Surface
from fourdnex.rendering.trajectories import orbit, scene_pivot
from fourdnex.rendering.views import render_frame
from fourdnex.scene import Scene4D


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, *, labels: Sequence[str] | None = None, gap: int = 4
) -> np.ndarray:
    """Lay images [H, W, 3] uint8 of one size out in rows on white, each with its label below.

    Raises:
        ValueError: no images, different sizes, or another number of labels.
    """
    if not images or columns < 1:
        raise ValueError(f"images and columns: expected at least one each, got {len(images)} and {columns}")
    shapes = {image.shape for image in images}
    if len(shapes) > 1 or images[0].ndim != 3 or images[0].shape[-1] != 3:
        raise ValueError(f"images: expected [H, W, 3] of one size, got {sorted(shapes)}")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"labels: expected {len(images)}, got {len(labels)}")
    height, width = images[0].shape[:2]
    label_height = 18 if labels is not None else 0
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cell_height, cell_width = height + label_height + gap, width + gap
    sheet = np.full((rows * cell_height + gap, columns * cell_width + gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = gap + row * cell_height, gap + column * cell_width
        sheet[top : top + height, left : left + width] = image
        if labels is not None:
            sheet[top + height : top + height + label_height, left : left + width] = _text(
                labels[index], label_height, width
            )
    return sheet


def preview_image(scene: Scene4D, *, panel_width: int = 320) -> np.ndarray:
    """One picture that says what a scene is: input and later frames above, depth and the cloud from a new view below.

    Returns:
        [H, W, 3] uint8; panels are about `panel_width` wide (frames are enlarged by whole numbers only).
    """
    zoom = max(1, round(panel_width / scene.width))
    last, middle = scene.num_frames - 1, scene.num_frames // 2
    depth = colourise_depth(scene.depth)
    panels = [(scene.rgb[0], "frame 0"), (scene.rgb[middle], f"frame {middle}"), (scene.rgb[last], f"frame {last}")]
    panels += [(depth[0], "depth, frame 0"), (depth[last], f"depth, frame {last}")]
    images = [_enlarge(image, zoom) for image, _ in panels]
    labels = [label for _, label in panels]
    if np.isfinite(scene.depth[last]).any():
        camera = orbit(scene.camera_to_world[last], scene_pivot(scene), np.array([-20.0]), 8.0)[0]
        images.append(render_frame(scene, last, camera, zoom=zoom).image)
    else:
        images.append(np.full_like(images[0], 255))
    labels.append(f"points, frame {last}, 20° to the right")
    return contact_sheet(images, 3, labels=labels)


def scene_sheet(scene: Scene4D, *, num_times: int = 5, tile_width: int = 240) -> np.ndarray:
    """A scene through time, [H, W, 3] uint8: rows of RGB, depth, points as colours, and the cloud from a new view.

    Colours mean the same in all columns. Tiles are about `tile_width` wide, and frames enlarged by whole numbers only.
    """
    times = np.unique(np.round(np.linspace(0, scene.num_frames - 1, num_times)).astype(int)).tolist()
    zoom = max(1, round(tile_width / scene.width))
    points = unproject(scene.depth, scene.intrinsics, scene.camera_to_world)[times]
    rows = [("RGB", scene.rgb[times]), ("depth", colourise_depth(scene.depth[times]))]
    rows.append(("points", colourise_points(points)))
    images = [_enlarge(image, zoom) for _, row in rows for image in row]
    labels = [f"{name}, frame {t}" for name, _ in rows for t in times]
    if np.isfinite(scene.depth).any():
        (camera,) = orbit(scene.camera_to_world[0], scene_pivot(scene), np.array([-15.0]), 6.0)
        images += [render_frame(scene, t, camera, zoom=zoom).image for t in times]
        labels += [f"15° to the right, frame {t}" for t in times]
    return contact_sheet(images, len(times), labels=labels)


def write_turntable(
    scene: Scene4D,
    path: str | os.PathLike[str],
    *,
    way: str = "turntable",
    num_views: int = 36,
    width: int = 480,
    fps: float = 12.0,
    time: float | None = None,
) -> None:
    """Write a small moving picture (.gif, .mp4 or .mkv) of the bare point cloud, for a report or a README.

    Args:
        way: of the camera, a name of PATH_NAMES. "swing" suits scenes of one picture better, whose back is empty.
        width: about that of the picture.
        time: stop the scene there, in [0, 1]; by default it runs.

    Raises:
        ValueError: another name, suffix or number; a scene without any depth.
    """
    views = named_path(scene, way, num_views)
    write_animation(path, _bare(scene, views if time is None else views.at_time(time), width / scene.width), fps=fps)


def _bare(scene: Scene4D, views: CameraPath, zoom: float) -> Iterator[np.ndarray]:
    for view, t in enumerate(views.frames(scene.num_frames).tolist()):
        surface = Surface(scene, t, zoom=zoom)
        yield surface.look(views.camera_to_world[view], views.intrinsics[view])[0].numpy()


def _enlarge(image: np.ndarray, zoom: int) -> np.ndarray:
    return image.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _text(text: str, height: int, width: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(canvas).text((2, 1), text, fill=(60, 60, 60), font=ImageFont.load_default(size=12))
    return np.asarray(canvas)
