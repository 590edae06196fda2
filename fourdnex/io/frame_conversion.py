"""Conversion of decoded video frames to images: deinterlaced, upright, square pixels, 8-bit sRGB.

`fourdnex.io.video` reads and writes video files with it; `fourdnex.io.lossless_video` stores arrays unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fourdnex.io.color import BT2020, UNSPECIFIED, CodedColor

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

MAX_PIXEL_ASPECT = 4.0
"""Largest sample aspect ratio, and inverse of the smallest; beyond it the ratio is taken to be damaged."""
_RATIO_TOLERANCE = 0.02  # relative difference between the aspect ratios of a frame and of the first frame
_FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG
_BT601 = 5
# Matrix coefficients of H.273 -> weights of red and blue in luma. Untagged frames may have 0 (RGB) or 3 (reserved).
_LUMA = {0: (0.299, 0.114), 1: (0.2126, 0.0722), UNSPECIFIED: (0.299, 0.114), 3: (0.299, 0.114), 4: (0.30, 0.11),
         _BT601: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), BT2020: (0.2627, 0.0593)}  # fmt: skip


class VideoError(ValueError):
    """A video that cannot be read as requested; the message names the video and the reason."""


class VideoReader:
    """The frames of one video stream, decoded one by one, and their conversion to images.

    Colors are converted according to the tags of the frames. Untagged frames are taken as BT.601, limited range, with
    the primaries and transfer function of sRGB.
    """

    def __init__(self, stream: VideoStream, decoded: Iterable[av.VideoFrame], *, name: str) -> None:
        """`decoded`: the frames of `stream` in order; `name`: of the video, for error messages."""
        self.frames: Iterator[av.VideoFrame] = _deinterlace(decoded)
        self.rate = float(stream.average_rate or stream.guessed_rate or 24)
        """Mean frames per second."""
        self._name = name
        self._pixel_aspect = float(stream.sample_aspect_ratio or 1)
        self._display_matrix: np.ndarray | None = None
        self._ratio: float | None = None

    def image(self, frame: av.VideoFrame, *, min_size: tuple[int, int] | None = None) -> np.ndarray:
        """Convert one of `frames` to an image [H, W, 3] uint8.

        Args:
            frame: the decoded frame.
            min_size: height and width that the caller needs. A larger frame with colors that are slow to convert may be
                returned at a half, a third, ... of its size.

        Raises:
            VideoError: the colors or the pixel aspect ratio cannot be converted, or the frame's aspect ratio differs
                from that of the first frame.
        """
        if self._ratio is None:
            self._display_matrix = _display_matrix(frame)
        try:
            pixels = _rotate_upright(self._square_pixels(_to_srgb(frame, min_size)), self._display_matrix)
        except ValueError as error:
            raise VideoError(f"{self._name}: {error}") from error
        ratio = pixels.shape[1] / pixels.shape[0]
        self._ratio = self._ratio or ratio
        if abs(ratio / self._ratio - 1) > _RATIO_TOLERANCE:
            expected = f"frames of one aspect ratio, {self._ratio:.2f}"
            raise VideoError(f"{self._name}: expected {expected}, got one of {ratio:.2f} (width / height)")
        return pixels

    def _square_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """The image with square pixels: same height, other width."""
        from PIL import Image

        aspect = self._pixel_aspect
        if not 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
            expected = f"from {1 / MAX_PIXEL_ASPECT:g} to {MAX_PIXEL_ASPECT:g}"
            raise ValueError(f"expected a sample aspect ratio {expected}, got {aspect:g}")
        height, width = pixels.shape[0], round(pixels.shape[1] * aspect)
        if width == pixels.shape[1]:
            return pixels
        resample = Image.Resampling.BOX if aspect < 1 else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(pixels).resize((width, height), resample))


def _deinterlace(decoded: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The same number of frames; interlaced ones keep one field, and the other is interpolated (bwdif)."""
    graph: Any = None
    graph_format: tuple[Any, ...] = ()
    for frame in decoded:
        frame_format = (frame.width, frame.height, frame.format.name)
        if graph is not None and frame_format != graph_format:
            yield from _flush(graph)
            graph = None
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if graph is None:
            graph, graph_format = _deinterlacer(frame), frame_format
        graph.vpush(frame)
        yield from _available_frames(graph)
    if graph is not None:
        yield from _flush(graph)


def _deinterlacer(frame: av.VideoFrame) -> Any:
    """A filter graph that deinterlaces frames of this size and pixel format."""
    from av.filter import Graph

    graph: Any = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base, name="in"
    )
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _available_frames(graph: Any) -> Iterator[av.VideoFrame]:
    """Frames that the filter graph has finished."""
    from av.error import BlockingIOError, EOFError

    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):  # more input needed, or end of the stream
            return


def _flush(graph: Any) -> Iterator[av.VideoFrame]:
    """The remaining frames of the filter graph."""
    graph.vpush(None)
    yield from _available_frames(graph)


def _to_srgb(frame: av.VideoFrame, min_size: tuple[int, int] | None) -> np.ndarray:
    """The frame as stored, [H, W, 3] uint8 in sRGB."""
    if frame.colorspace not in _LUMA:
        expected = "RGB, or YCbCr of BT.601, BT.709 or BT.2020"
        raise ValueError(f"color: expected {expected}, got matrix coefficients {frame.colorspace} of H.273")
    color = CodedColor(frame.color_primaries, frame.color_trc)
    if color.is_srgb:
        if frame.format.components[0].bits <= 8:
            return frame.to_ndarray(format="rgb24")
        # FFmpeg scales packed RGB of more than 8 bits by 255/256; planar RGB is exact.
        return frame.reformat(format="gbrp").to_ndarray()
    return color.to_srgb(_signal(frame, min_size, default=BT2020 if color.is_hdr else _BT601))


def _signal(frame: av.VideoFrame, min_size: tuple[int, int] | None, *, default: int) -> np.ndarray:
    """R'G'B' [H, W, 3] float32 in [0, 1], from 16-bit Y'CbCr; `default` is the matrix of untagged frames.

    FFmpeg only resizes and shifts bits here, because it scales R'G'B' of more than 8 bits by 255/256.
    """
    import cv2

    factor = max(1, min(frame.height, frame.width) // max(min_size)) if min_size else 1
    size: dict[str, Any] = {"width": frame.width // factor, "height": frame.height // factor, "interpolation": "AREA"}
    if frame.format.is_rgb:
        return frame.reformat(format="rgb48le", **size).to_ndarray().astype(np.float32) / 65535
    planes = frame.reformat(format="yuv444p16le", **size).to_ndarray()  # [H, W, 3] Y'CbCr
    red, blue = _LUMA[default if frame.colorspace in (0, UNSPECIFIED, 3) else frame.colorspace]
    green = 1 - red - blue
    is_full_range = frame.color_range == _FULL_RANGE
    black, luma, chroma = (0, 65535, 65535) if is_full_range else (16 << 8, 219 << 8, 224 << 8)
    ycbcr_to_rgb = np.array([
        [1, 0, 2 * (1 - red)],
        [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
        [1, 2 * (1 - blue), 0],
    ])  # fmt: skip
    matrix = ycbcr_to_rgb / (luma, chroma, chroma)
    offset = -matrix @ (black, 32768, 32768)
    return cv2.transform(planes.astype(np.float32), np.column_stack([matrix, offset]).astype(np.float32))


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """The frame's display matrix [3, 3]. Read once per video: PyAV's mapping keeps its frame alive until collected."""
    side_data: Any = frame.side_data  # a mapping, although PyAV's type stubs declare the type of one value
    matrix = side_data.get("DISPLAYMATRIX")
    return None if matrix is None else np.frombuffer(matrix, np.int32).reshape(3, 3).copy()


def _rotate_upright(pixels: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Pixels [H, W, 3] rotated and mirrored by the display matrix; phones record portrait videos rotated."""
    if matrix is None:
        return pixels
    # The stored pixel (x, y) is displayed at (a x + c y, b x + d y).
    (a, b, _), (c, d, _), _ = matrix.tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
