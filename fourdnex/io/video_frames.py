"""Decoded video frames as images: progressive, upright, with square pixels, in sRGB of 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.io.color import BT2020, UNSPECIFIED, CodedColor

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

MAX_PIXEL_ASPECT = 4.0
"""How far pixels may be from square, either way; where they are further, the ratio is damaged."""
_RATIO_TOLERANCE = 0.02  # of a later frame's shape to the first one's
_FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG
_BT601 = 5
# Code of H.273 -> weights of red and blue in luma. 0, R'G'B', and 3, reserved, are what untagged frames may have.
_LUMA = {0: (0.299, 0.114), 1: (0.2126, 0.0722), UNSPECIFIED: (0.299, 0.114), 3: (0.299, 0.114), 4: (0.30, 0.11),
         _BT601: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), BT2020: (0.2627, 0.0593)}  # fmt: skip


class VideoError(ValueError):
    """A video that cannot be read as asked; the message names it and says why."""


class VideoFrames:
    """The frames of one stream while it is decoded, and what makes images of them.

    Color is what the frames' tags say. Untagged frames are BT.601, limited range, in the colors of sRGB.
    """

    def __init__(self, stream: VideoStream, decoded: Iterable[av.VideoFrame], *, name: str) -> None:
        """`decoded`: the frames of `stream`, as they come; `name` begins messages."""
        self.frames: Iterator[av.VideoFrame] = _progressive(decoded)
        self.rate = float(stream.average_rate or stream.guessed_rate or 24)
        """Mean frames a second."""
        self._name = name
        self._pixel_aspect = float(stream.sample_aspect_ratio or 1)
        self._display_matrix: np.ndarray | None = None
        self._ratio: float | None = None

    def image(self, frame: av.VideoFrame, *, at_least: tuple[int, int] | None = None) -> np.ndarray:
        """One of `frames` as [H, W, 3] uint8.

        Args:
            at_least: height and width that are needed; a larger frame whose colors take long to convert may come at a
                half, a third, ... of its size.

        Raises:
            VideoError: colors, or a shape of pixels, that cannot be converted, or a frame of another shape than the
                first one.
        """
        if self._ratio is None:
            self._display_matrix = _display_matrix(frame)
        try:
            pixels = _upright(self._stretched(_srgb(frame, at_least)), self._display_matrix)
        except ValueError as error:
            raise VideoError(f"{self._name}: {error}") from error
        ratio = pixels.shape[1] / pixels.shape[0]
        self._ratio = self._ratio or ratio
        if abs(ratio / self._ratio - 1) > _RATIO_TOLERANCE:
            found = f"{ratio:.2f} times as wide as high after {self._ratio:.2f}"
            raise VideoError(f"{self._name}: expected frames of one shape, found some {found}")
        return pixels

    def _stretched(self, pixels: np.ndarray) -> np.ndarray:
        """With square pixels: as many rows, of another width."""
        from PIL import Image

        aspect = self._pixel_aspect
        if not 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
            expected = f"from {1 / MAX_PIXEL_ASPECT:g} to {MAX_PIXEL_ASPECT:g}"
            raise ValueError(f"expected a sample aspect ratio {expected}, got {aspect:g}")
        height, width = pixels.shape[0], round(pixels.shape[1] * aspect)
        if width == pixels.shape[1]:
            return pixels
        kind = Image.Resampling.BOX if aspect < 1 else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(pixels).resize((width, height), kind))


def _progressive(decoded: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """All frames, as many as come; of each that is interlaced one field is kept, and its neighbors fill the other."""
    graph: Any = None
    made_for: tuple[Any, ...] = ()
    for frame in decoded:
        kind = (frame.width, frame.height, frame.format.name)
        if graph is not None and kind != made_for:
            yield from _drained(graph)
            graph = None
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if graph is None:
            graph, made_for = _deinterlacer(frame), kind
        graph.vpush(frame)
        yield from _ready(graph)
    if graph is not None:
        yield from _drained(graph)


def _deinterlacer(frame: av.VideoFrame) -> Any:
    from av.filter import Graph

    graph: Any = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base, name="in"
    )
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _ready(graph: Any) -> Iterator[av.VideoFrame]:
    from av.error import BlockingIOError, EOFError

    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):  # it wants another frame, or has no more
            return


def _drained(graph: Any) -> Iterator[av.VideoFrame]:
    graph.vpush(None)
    yield from _ready(graph)


def _srgb(frame: av.VideoFrame, at_least: tuple[int, int] | None) -> np.ndarray:
    """A frame as it is stored, [H, W, 3] uint8 in sRGB."""
    if frame.colorspace not in _LUMA:
        expected = "RGB, or YCbCr of BT.601, BT.709 or BT.2020"
        raise ValueError(f"color: expected {expected}, got matrix coefficients {frame.colorspace} of H.273")
    color = CodedColor(frame.color_primaries, frame.color_trc)
    if color.is_srgb:
        if frame.format.components[0].bits <= 8:
            return frame.to_ndarray(format="rgb24")
        # Packed RGB of more than 8 bits comes out at 255/256 of its light.
        return frame.reformat(format="gbrp").to_ndarray()
    return color.to_srgb(_signal(frame, at_least, default=BT2020 if color.is_hdr else _BT601))


def _signal(frame: av.VideoFrame, at_least: tuple[int, int] | None, *, default: int) -> np.ndarray:
    """R'G'B' [H, W, 3] float32 from 0 to 1, from Y'CbCr of 16 bits; by the matrix `default` where none is named.

    FFmpeg only scales and moves bits: its R'G'B' of more than 8 bits comes out at 255/256 of its light.
    """
    import cv2

    factor = max(1, min(frame.height, frame.width) // max(at_least)) if at_least else 1
    size: dict[str, Any] = {"width": frame.width // factor, "height": frame.height // factor, "interpolation": "AREA"}
    if frame.format.is_rgb:
        return frame.reformat(format="rgb48le", **size).to_ndarray().astype(np.float32) / 65535
    planes = frame.reformat(format="yuv444p16le", **size).to_ndarray()  # [H, W, 3] Y'CbCr
    red, blue = _LUMA[default if frame.colorspace in (0, UNSPECIFIED, 3) else frame.colorspace]
    green = 1 - red - blue
    full = frame.color_range == _FULL_RANGE
    black, luma, chroma = (0, 65535, 65535) if full else (16 << 8, 219 << 8, 224 << 8)
    per_chroma = np.array([
        [1, 0, 2 * (1 - red)],
        [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
        [1, 2 * (1 - blue), 0],
    ])  # fmt: skip
    matrix = per_chroma / (luma, chroma, chroma)
    offset = -matrix @ (black, 32768, 32768)
    return cv2.transform(planes.astype(np.float32), np.column_stack([matrix, offset]).astype(np.float32))


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """Read once a video: PyAV's mapping keeps its frame alive until garbage is collected."""
    side_data: Any = frame.side_data  # a mapping, which PyAV's own types call one of its values
    matrix = side_data.get("DISPLAYMATRIX")
    return None if matrix is None else np.frombuffer(matrix, np.int32).reshape(3, 3).copy()


def _upright(pixels: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Pixels [H, W, 3] turned and mirrored as the display matrix says: phones film lying down."""
    if matrix is None:
        return pixels
    # What lies at (x, y) is shown at (a x + c y, b x + d y).
    (a, b, _), (c, d, _), _ = matrix.tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
