"""Logarithmic coding of depth maps in 16 bits."""

from typing import Any

import numpy as np

_DEPTH_STEP = 1e-3
"""Largest relative step between neighboring codes; the relative error of a stored depth is at most half of it."""
_MAX_CODES = 65534  # steps of the logarithmic scale; code 0 marks invalid depth


def encode_depth(depth: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Encode depth [T, H, W] as codes [T, H, W] uint16, 0 where invalid, and the mapping that `decode_depth` needs.

    depth = near * (far / near)^((code - 1) / codes)
    """
    valid = np.isfinite(depth)
    near, far = (float(depth[valid].min()), float(depth[valid].max())) if valid.any() else (1.0, 1.0)
    span = max(float(np.log(far / near)), 1e-6)
    # No more codes than the error bound requires: finer steps store noise, which dominates the size of a lossless file.
    # The small offset lets a depth map that was decoded before get the same codes again.
    count = max(1, min(_MAX_CODES, int(np.ceil(span / _DEPTH_STEP - 1e-2))))
    codes = np.empty(depth.shape, np.uint16)
    for frame, frame_valid, out in zip(depth, valid, codes, strict=True):
        levels = np.log(np.where(frame_valid, frame, near).astype(np.float64) / near) * (count / span)
        out[...] = np.where(frame_valid, 1 + np.rint(levels), 0)
    mapping = {
        "mapping": "logarithmic",
        "near": near,
        "far": float(near * np.exp(span)),
        "codes": count,
        "invalid_code": 0,
    }
    return codes, mapping


def decode_depth(codes: np.ndarray, mapping: dict[str, Any]) -> np.ndarray:
    """Decode codes [T, H, W] to depth [T, H, W] float32, NaN where invalid.

    Raises:
        KeyError: the mapping lacks a field.
        ValueError: the mapping is not an object, is not logarithmic, or has a value out of range.
    """
    if not isinstance(mapping, dict):
        raise ValueError(f"mapping: expected an object, got {mapping!r}")
    if mapping["mapping"] != "logarithmic":
        raise ValueError(f"mapping: expected 'logarithmic', got {mapping['mapping']!r}")
    near, far, count = mapping["near"], mapping["far"], mapping.get("codes", _MAX_CODES)
    if not (_is_number(near) and _is_number(far) and 0 < near <= far < np.inf):
        raise ValueError(f"near and far: expected finite numbers with 0 < near <= far, got {near!r} and {far!r}")
    if not (isinstance(count, int) and 1 <= count <= _MAX_CODES):
        raise ValueError(f"codes: expected a number from 1 to {_MAX_CODES}, got {count!r}")
    span = np.log(far / near)
    table = np.full(1 << 16, np.nan, np.float32)
    table[1 : count + 2] = near * np.exp(np.arange(count + 1) * (span / count))
    return table[codes]


def _is_number(value: object) -> bool:
    """Whether a value from JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
