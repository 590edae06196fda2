"""Blending of the warped photograph with the model's coarse frame, by the consistency of both.

The photograph shows static objects with more detail than the model, so its pixels are kept unless the model's frame
contradicts them: a moving object occludes them, or the colors differ over more than a few pixels. The model's frame may
be blurred, with misaligned edges, so both are compared over a neighborhood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.rendering.inpainting import OpenCVInpainter
from fourdnex.scene import Origin, Scene4D

if TYPE_CHECKING:
    from fourdnex.lifting.warping import WarpedSurface

OCCLUSION = 0.1
"""Relative depth by which a moving object must be nearer than a warped point to occlude it."""
SAME_COLOR = 5.0
"""Color difference, of 255, up to which the photograph is kept; mean over the channels and the neighborhood."""
FADE = 20.0
"""Additional color difference, of 255, over which the photograph fades into the model's frame."""
ERROR_FACTOR = 2.0
"""Multiple of the frame's median difference in depth and color that is attributed to model error."""
MIN_MISMATCH, MAX_MISMATCH = 28.0, 40.0
"""Color differences of 255, third quartile over the frame. Below the first, the frame resembles the photograph: it may
contradict it, and provides the colors of disoccluded regions. Above the second, it does not: the warped photograph is
kept, and disoccluded regions are inpainted."""
CELLS = 96
"""Minimum number of cells along the longer side for comparing frames; cells of larger frames are n x n pixels."""
NEIGHBORHOOD = 1.5
"""Standard deviation in cells of the neighborhood over which colors are compared."""
TONE = 80.0
"""Maximum correction of the model's colors, of 255."""
_MIN_COVERAGE = 0.2
"""Minimum fraction of a cell that warped points must cover."""
_FEATHER = 2.0
"""Width in pixels of the transition between the photograph and the model's frame."""


@dataclass(frozen=True, eq=False)
class LiftedFrame:
    """One frame of a lifted scene."""

    rgb: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W] float32, NaN without a point
    origin: np.ndarray  # [H, W] uint8, see `Origin`


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Comparison of a model's frame with the warped photograph, in cells [h, w]."""

    photograph_weight: np.ndarray  # [h, w] float32, blending weight of the photograph
    tone: np.ndarray  # [h, w, 3] float32, color correction from the model's frame to the photograph
    inpainted: np.ndarray | None  # [h, w, 3] float32, inpainted colors of disoccluded regions
    similarity: float
    """Similarity of the frame to the photograph, 0 to 1: the frame's weight in disoccluded regions."""

    @property
    def origin(self) -> Origin:
        """Predominant origin of disoccluded regions."""
        return Origin.MODEL if self.similarity > 0.5 else Origin.FILLED


class ModelFrame:
    """Frame `t` of a scene, to be lifted to `size` (H, W).

    Args:
        moving: [h, w] bool, moving pixels of the frame.
        mismatch_factor: multiplies the frame's mismatch with the photograph; above 1, the frame must be more similar.
    """

    def __init__(
        self, scene: Scene4D, t: int, size: tuple[int, int], moving: np.ndarray, *, mismatch_factor: float = 1.0
    ) -> None:
        self._mismatch_factor = mismatch_factor
        self._rgb = scene.rgb[t].astype(np.float32)
        with np.errstate(divide="ignore"):
            self._inverse = np.nan_to_num(1 / scene.depth[t], nan=0.0)  # 0: no depth
        self._size = size
        # Means of colors and inverse depth in cells.
        edge = max(1, max(moving.shape) // CELLS)
        self._cells = tuple(-(-side // edge) for side in moving.shape)
        self._cell_rgb, self._cell_inverse = self._to_cells(self._rgb), self._to_cells(self._inverse)
        self._moving = self._to_cells(moving.astype(np.float32)) > 0.5

    def blend(self, warped: WarpedSurface, photograph: np.ndarray, static: np.ndarray) -> LiftedFrame:
        """The frame with the warped photograph [H, W, 3] where both are consistent, and the model's frame elsewhere.

        Args:
            warped: the first frame's surface in this frame's camera.
            static: [H, W] bool, pixels of the photograph that show static objects.
        """
        import cv2

        depth = warped.depth.cpu().numpy()
        # Opening removes isolated pixels at depth edges with a motion different from their surroundings.
        visible = cv2.morphologyEx(np.isfinite(depth).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
        colors = _backward_warp(photograph, warped, cv2.INTER_CUBIC)
        warped_static = _backward_warp(static.astype(np.uint8), warped, cv2.INTER_NEAREST)
        comparison = self._compare(colors, depth, visible, visible & (warped_static > 0))
        weight = self._feathered(self._upsampled(comparison.photograph_weight) * visible)[..., None]
        background = self._background(comparison)
        rgb = np.clip(np.rint(background + weight * (colors - background)), 0, 255).astype(np.uint8)
        from_photograph = weight[..., 0] > 0.5
        model_depth = self._upsampled_depth()
        origin = np.where(np.isfinite(model_depth), comparison.origin, Origin.NONE)
        return LiftedFrame(
            rgb=rgb,
            depth=np.where(from_photograph, depth, model_depth).astype(np.float32),
            origin=np.where(from_photograph, Origin.PHOTOGRAPH, origin).astype(np.uint8),
        )

    def resembles(self, warped: WarpedSurface, photograph: np.ndarray) -> bool:
        """Whether the frame is similar enough to the photograph to provide motion and disoccluded regions."""
        import cv2

        depth = warped.depth.cpu().numpy()
        visible = np.isfinite(depth)
        colors = _backward_warp(photograph, warped, cv2.INTER_LINEAR)
        return self._compare(colors, depth, visible, visible).similarity > 0.5

    def _compare(self, colors: np.ndarray, depth: np.ndarray, visible: np.ndarray, static: np.ndarray) -> _Comparison:
        """Compare the frame with warped colors [H, W, 3] and depth [H, W], where they are visible and static [H, W]."""
        mask = visible.astype(np.float32)
        coverage = self._to_cells(mask)
        divisor = np.maximum(coverage, 1e-3)
        warped_rgb = self._to_cells(colors * mask[..., None]) / divisor[..., None]
        inverse = self._to_cells(np.divide(1, depth, out=np.zeros_like(depth), where=visible)) / divisor
        is_covered = coverage > _MIN_COVERAGE
        is_static = is_covered & (self._to_cells(static.astype(np.float32)) > 0.5 * coverage)
        # In static cells, depths differ by model error only; an occluder is nearer than this error explains.
        nearer = self._cell_inverse / np.maximum(inverse, 1e-9) - 1
        reference = is_static & ~self._moving & (self._cell_inverse > 0)
        depth_error = _median(np.abs(nearer[reference]))
        is_occluded = is_static & self._moving & (nearer > max(OCCLUSION, ERROR_FACTOR * depth_error))
        difference = (warped_rgb - self._cell_rgb) * is_covered[..., None]
        offset = np.median(difference[reference], axis=0) if reference.sum() >= 32 else np.zeros(3)
        weight = np.maximum(_blurred(is_covered.astype(np.float32), NEIGHBORHOOD), 1e-3)
        local = np.abs(_blurred(difference - offset * is_covered[..., None], NEIGHBORHOOD)).mean(axis=-1) / weight
        color_error = _median(local[is_covered])
        same, fade = max(SAME_COLOR, ERROR_FACTOR * color_error), max(FADE, 2 * ERROR_FACTOR * color_error)
        mismatch = self._mismatch_factor * float(np.percentile(local[is_covered], 75)) if is_covered.any() else 0.0
        similarity = float(np.clip((MAX_MISMATCH - mismatch) / (MAX_MISMATCH - MIN_MISMATCH), 0, 1))
        consistency = np.clip((same + fade - local) / fade, 0, 1) * ~is_occluded
        agreement = is_covered * (similarity * consistency + (1 - similarity))
        return _Comparison(
            photograph_weight=np.clip(2 * agreement - 0.5, 0, 1).astype(np.float32),
            tone=_diffused(difference, agreement * coverage * ~self._moving),
            inpainted=None if similarity == 1 else _inpainted(warped_rgb, inverse, agreement * is_covered > 0.5),
            similarity=similarity,
        )

    def _background(self, comparison: _Comparison) -> np.ndarray:
        """Colors [H, W, 3] float32 of disoccluded regions: the tone-corrected frame, blended with inpainting."""
        model = self._upsampled(self._rgb, cubic=True) + self._upsampled(comparison.tone, cubic=True)
        if comparison.inpainted is None:
            return model
        inpainted = self._upsampled(comparison.inpainted, cubic=True)
        return comparison.similarity * model + (1 - comparison.similarity) * inpainted

    def _upsampled_depth(self) -> np.ndarray:
        """The frame's depth [H, W], interpolated in inverse depth; NaN without depth."""
        valid = (self._inverse > 0).astype(np.float32)
        inverse, weight = self._upsampled(self._inverse), self._upsampled(valid)
        return np.divide(weight, inverse, out=np.full(self._size, np.nan, np.float32), where=weight > 0.5)

    def _feathered(self, mask: np.ndarray) -> np.ndarray:
        """The mask with a smooth falloff inside of its border."""
        import cv2

        inner = cv2.erode(mask.astype(np.float32), np.ones((3, 3), np.uint8))
        return np.minimum(mask, cv2.GaussianBlur(inner, (0, 0), _FEATHER))

    def _to_cells(self, values: np.ndarray) -> np.ndarray:
        """Means of values [H, W, ...] or [h, w, ...] in cells."""
        import cv2

        height, width = self._cells
        return cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)

    def _upsampled(self, values: np.ndarray, *, cubic: bool = False) -> np.ndarray:
        """Values interpolated to [H, W, ...]."""
        import cv2

        height, width = self._size
        return cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR)


def _backward_warp(image: np.ndarray, warped: WarpedSurface, interpolation: int) -> np.ndarray:
    """The first frame's image [H, W, ...], sampled at the positions of a warped surface."""
    import cv2

    column, row = (np.nan_to_num(position.cpu().numpy(), nan=-1) for position in (warped.column, warped.row))
    # Border replication: pixels at the border of the photograph are up to half a pixel outside.
    return cv2.remap(image, column, row, interpolation, borderMode=cv2.BORDER_REPLICATE)


def _diffused(difference: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Color correction [h, w, 3] from differences with weights [h, w], diffused over several scales."""
    weight = weight.astype(np.float32)
    total, correction = np.full(weight.shape, 1e-4, np.float32), np.zeros((*weight.shape, 3), np.float32)
    for sigma, factor in ((2.0, 1.0), (6.0, 0.03), (20.0, 0.001)):  # larger scales only matter without nearby weights
        total += factor * _blurred(weight, sigma)
        correction += factor * _blurred(difference * weight[..., None], sigma)
    return np.clip(correction / total[..., None], -TONE, TONE)


def _inpainted(colors: np.ndarray, inverse: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Colors [h, w, 3], inpainted from the background where they are not `known` [h, w]."""
    if not known.any():
        return colors
    depth = np.where(known, 1 / np.maximum(inverse, 1e-9), np.inf).astype(np.float32)
    image = np.clip(np.rint(colors), 0, 255).astype(np.uint8)
    return OpenCVInpainter()(image, depth).astype(np.float32)


def _median(values: np.ndarray) -> float:
    """The median; 0 without values."""
    return float(np.median(values)) if values.size else 0.0


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur."""
    import cv2

    return cv2.GaussianBlur(values, (0, 0), sigma)
