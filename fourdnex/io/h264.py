"""H.264 streams: colors that every player shows alike, and bytes that do not depend on the processor.

Frames are converted to BT.709, limited range, here and in integers: FFmpeg's own conversion takes BT.601 for RGB input,
tags nothing, and its rounding depends on the processor. The stream says what it holds, in all four of its color fields.
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

_BT709 = 1  # of color space, primaries and transfer alike (ITU-T H.273)
_LIMITED = 1  # FFmpeg's AVCOL_RANGE_MPEG

# With AVX-512, x264 reads what lay in freed memory and gives other bytes at every call. These instructions are in every
# processor that NumPy's wheels run on (x86-64-v2), give the bytes that AVX2 gives, and are as fast.
_INSTRUCTIONS = "asm=SSE2,SSSE3,SSE4.2"

# Rows are Y, Cb, Cr of ITU-R BT.709 for R, G, B of 8 bits, in units of 2^-16; each row of Cb and Cr sums to 0.
_MATRIX = np.array([[11966, 40254, 4064], [-6596, -22189, 28785], [28785, -26145, -2640]], np.int32)
_OFFSET = (np.array([16, 128, 128], np.int32) << 16) + (1 << 15)


def add_h264_stream(
    container: OutputContainer, *, fps: float, height: int, width: int, pixel_format: PixelFormat, crf: int
) -> Any:
    """Add a stream for frames of `yuv_frame`.

    Args:
        fps: frames a second.
        height: of the frames; even for "yuv420p", as is `width`.
        crf: quality of x264; about 6 more halves the size.
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
    """A frame [H, W, 3] uint8 in BT.709, limited range; with "yuv420p" a pixel's color is the mean of 2x2 pixels."""
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
    """[H, W, 3] uint8 to Y, Cb, Cr [3, H, W] uint8 of ITU-R BT.709, limited range; exact integers, half rounds up."""
    channels = np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.int32).reshape(3, -1)
    planes = np.empty((3, channels.shape[1]), np.uint8)
    for plane, weights, offset in zip(planes, _MATRIX, _OFFSET, strict=True):
        total = channels[0] * weights[0] + channels[1] * weights[1] + channels[2] * weights[2]
        plane[:] = (total + offset) >> 16
    return planes.reshape(3, *rgb.shape[:2])
