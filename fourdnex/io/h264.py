"""H.264 streams with unambiguous colors, and bytes that do not depend on the processor.

Frames are converted to BT.709, limited range, in integers here: FFmpeg's own conversion uses BT.601 for RGB input, does
not tag the result, and rounds differently on different processors. All four color fields of the stream are set.
"""

from __future__ import annotations

import platform
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

PixelFormat = Literal["yuv420p", "yuv444p"]

_BT709 = 1  # the same code for matrix, primaries and transfer function (ITU-T H.273)
_LIMITED = 1  # FFmpeg's AVCOL_RANGE_MPEG

# With AVX-512, x264 reads freed memory, and the bytes differ between calls. Every processor that NumPy's wheels support
# (x86-64-v2) has these instructions; the bytes are the same as with AVX2, and the speed is too.
_INSTRUCTIONS = "asm=SSE2,SSSE3,SSE4.2"

# Rows: Y, Cb, Cr of ITU-R BT.709 from 8-bit R, G, B, in units of 2^-16. The rows of Cb and Cr sum to 0.
_MATRIX = np.array([[11966, 40254, 4064], [-6596, -22189, 28785], [28785, -26145, -2640]], np.int32)
_OFFSET = (np.array([16, 128, 128], np.int32) << 16) + (1 << 15)


def add_h264_stream(
    container: OutputContainer, *, fps: float, height: int, width: int, pixel_format: PixelFormat, crf: int
) -> Any:
    """Add a stream for frames converted by `yuv_frame`.

    Args:
        container: the output file.
        fps: frames per second.
        height, width: of the frames; even for "yuv420p".
        pixel_format: chroma subsampling.
        crf: constant rate factor of x264; 6 more halves the size.
    """
    stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000))
    stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
    stream.options = {"crf": str(crf), "preset": "medium", "flags": "+bitexact"}
    if platform.machine().lower() in ("x86_64", "amd64"):
        stream.options |= {"x264-params": _INSTRUCTIONS}
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED
    return stream


def yuv_frame(rgb: np.ndarray, pixel_format: PixelFormat) -> av.VideoFrame:
    """Convert a frame [H, W, 3] uint8 to BT.709, limited range; "yuv420p" averages the chroma of 2x2 pixels."""
    import av

    planes = rgb_to_yuv(rgb)
    if pixel_format == "yuv420p":
        height, width = rgb.shape[:2]
        blocks = planes[1:].reshape(2, height // 2, 2, width // 2, 2).astype(np.uint16)
        chroma = ((blocks.sum(axis=(2, 4)) + 2) >> 2).astype(np.uint8)
        flat = np.concatenate([planes[0].reshape(-1), chroma.reshape(-1)]).reshape(height * 3 // 2, width)
        frame = av.VideoFrame.from_ndarray(flat, format="yuv420p")
    else:
        frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
    frame.colorspace, frame.color_range = _BT709, _LIMITED
    return frame


def rgb_to_yuv(rgb: np.ndarray) -> np.ndarray:
    """Convert [H, W, 3] uint8 to Y, Cb, Cr [3, H, W] uint8 (ITU-R BT.709, limited range), rounding half up."""
    channels = np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.int32).reshape(3, -1)
    planes = np.empty((3, channels.shape[1]), np.uint8)
    for plane, weights, offset in zip(planes, _MATRIX, _OFFSET, strict=True):
        total = channels[0] * weights[0] + channels[1] * weights[1] + channels[2] * weights[2]
        plane[:] = (total + offset) >> 16
    return planes.reshape(3, *rgb.shape[:2])
