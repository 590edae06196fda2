"""Images for people: contact sheets, the preview of a scene."""

from collections.abc import Sequence

import numpy as np

from fourdnex.rendering.colormaps import colorize_depth
from fourdnex.rendering.trajectories import orbit, scene_pivot
from fourdnex.rendering.views import render_frame
from fourdnex.scene import Scene4D
from fourdnex.subsampling import subsample_scene


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
    """One image that says what a scene is: input and later frames above, depth and the cloud from a new view below.

    Returns:
        [H, W, 3] uint8; panels are about `panel_width` wide: small frames are enlarged by whole numbers, of large ones
        every second (third, ...) pixel is shown.
    """
    zoom = max(1, round(panel_width / scene.width))
    scene = subsample_scene(scene, max(1, round(scene.width / panel_width)))
    last, middle = scene.num_frames - 1, scene.num_frames // 2
    depth = colorize_depth(scene.depth)
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


def _enlarge(image: np.ndarray, zoom: int) -> np.ndarray:
    return image.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _text(text: str, height: int, width: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(canvas).text((2, 1), text, fill=(60, 60, 60), font=ImageFont.load_default(size=12))
    return np.asarray(canvas)
