"""Contact sheets: images in a grid."""

from collections.abc import Sequence

import numpy as np

_LABEL_HEIGHT = 18


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int,
    *,
    labels: Sequence[str] | None = None,
    gap: int = 4,
    margin: int | None = None,
    cell_width: int | None = None,
) -> np.ndarray:
    """Lay out images [H, W, 3] uint8 in rows on white, [H, W, 3] uint8.

    Args:
        images: all of one size, unless `cell_width` is given.
        columns: images per row; fewer images make a narrower sheet.
        labels: one per image, written below it.
        gap: pixels between the images.
        margin: pixels around the grid; `gap` by default.
        cell_width: width of a column in pixels. Images may then have different sizes, up to this width; each row is as
            high as its highest image.

    Raises:
        ValueError: there are no images, their sizes do not fit, or the number of labels differs.
    """
    if not images or columns < 1:
        raise ValueError(f"images and columns: expected at least one each, got {len(images)} and {columns}")
    shapes = {image.shape for image in images}
    if cell_width is None and (len(shapes) > 1 or images[0].ndim != 3 or images[0].shape[-1] != 3):
        raise ValueError(f"images: expected [H, W, 3] of one size, got {sorted(shapes)}")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"labels: expected {len(images)}, got {len(labels)}")
    margin = gap if margin is None else margin
    width = images[0].shape[1] if cell_width is None else cell_width
    label_height = 0 if labels is None else _LABEL_HEIGHT
    columns = min(columns, len(images))
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    heights = [max(len(images[index]) for index in row) for row in rows]
    sheet_height = 2 * margin + sum(heights) + len(rows) * label_height + (len(rows) - 1) * gap
    sheet = np.full((sheet_height, 2 * margin + columns * width + (columns - 1) * gap, 3), 255, np.uint8)
    top = margin
    for row, height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left, image = margin + column * (width + gap), images[index]
            sheet[top : top + len(image), left : left + image.shape[1]] = image
            if labels is not None:
                sheet[top + height : top + height + label_height, left : left + width] = _text(
                    labels[index], label_height, width
                )
        top += height + label_height + gap
    return sheet


def enlarge(image: np.ndarray, zoom: int) -> np.ndarray:
    """Repeat every pixel of an image [H, W, 3] `zoom` times in both directions."""
    return image.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _text(text: str, height: int, width: int) -> np.ndarray:
    """A line of text as an image [height, width, 3] uint8."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(canvas).text((2, 1), text, fill=(60, 60, 60), font=ImageFont.load_default(size=12))
    return np.asarray(canvas)
