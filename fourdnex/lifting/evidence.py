"""What the model's coarse frame says of the photograph's points that its camera sees: whether they are really there.

The photograph shows still things far better than the model does, so that they keep it unless the frame speaks against
it: something that moves is in front of them there, or the colors differ over more than a few pixels. The model's frame
may be blurred, and its edges off: both are compared over a neighborhood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fourdnex.rendering.inpainting import OpenCVInpainter
from fourdnex.scene import Origin, Scene4D

if TYPE_CHECKING:
    from fourdnex.lifting.carry import Carried

IN_FRONT = 0.1
"""Something that moves hides a carried point that is farther by more than this share of its depth."""
SAME_COLOR = 5.0
"""Of 255: colors that differ by less, as a mean over the channels and the neighborhood, are the same."""
FADE = 20.0
"""Of 255: how much more they differ to be others; between, the photograph fades into the model's frame."""
EXCESS = 2.0
"""Up to so many times the frame's median difference, depth and color differ by the model's usual error alone."""
FAMILIAR, FOREIGN = 28.0, 40.0
"""Of 255: a frame whose difference of color is below the first in three quarters of its pixels shows the photograph's
things well enough to speak against it, and to give the colors of what it does not show. Where a quarter is above the
second it does not: what is carried stays, and the rest is filled from around."""
CELLS = 96
"""Cells along the longer side, at least, in which a frame is compared: a large one's are n x n of its pixels."""
NEIGHBORHOOD = 1.5
"""Cells (standard deviation) over which colors are compared."""
TONE = 80.0
"""Of 255: the most by which the model's tone is moved."""
_SHARE = 0.2
"""Of a cell that carried points must cover to be compared."""
_FEATHER = 2.0
"""Pixels over which the photograph passes into the model's frame."""


@dataclass(frozen=True, eq=False)
class LiftedFrame:
    """One frame of a lifted scene."""

    rgb: np.ndarray  # [H, W, 3] uint8
    depth: np.ndarray  # [H, W] float32, NaN where there is no point
    origin: np.ndarray  # [H, W] uint8, see `Origin`


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What comes of comparing a frame with what is carried of the photograph, in cells [h, w]."""

    agreement: np.ndarray  # [h, w] float32, share of the photograph
    tone: np.ndarray  # [h, w, 3] float32, what the frame's colors lack of the photograph's
    filled: np.ndarray | None  # [h, w, 3] float32, colors from around what the photograph does not show
    trust: float
    """How well the frame resembles the photograph, 0 to 1: its own share in what the photograph does not show."""

    @property
    def origin(self) -> Origin:
        """Where most of what the photograph does not show comes from."""
        return Origin.MODEL if self.trust > 0.5 else Origin.FILLED


class ModelFrame:
    """Frame `t` of a scene, to be seen at `size` (H, W).

    Args:
        moving: [h, w] bool, pixels of the frame that move by themselves.
        doubt: how much more than usual the frame must resemble the photograph.
    """

    def __init__(
        self, scene: Scene4D, t: int, size: tuple[int, int], moving: np.ndarray, *, doubt: float = 1.0
    ) -> None:
        self._doubt = doubt
        self._rgb = scene.rgb[t].astype(np.float32)
        with np.errstate(divide="ignore"):
            self._own_inverse = np.nan_to_num(1 / scene.depth[t], nan=0.0)  # 0: none
        self._size = size
        # In cells: colors and depth averaged.
        edge = max(1, max(moving.shape) // CELLS)
        self._cells = tuple(-(-side // edge) for side in moving.shape)
        self._cell_rgb, self._inverse = self._in_cells(self._rgb), self._in_cells(self._own_inverse)
        self._moving = self._in_cells(moving.astype(np.float32)) > 0.5

    def with_photograph(self, seen: Carried, photograph: np.ndarray, still: np.ndarray) -> LiftedFrame:
        """The frame with the photograph [H, W, 3] where what is carried of it is confirmed, else the model's own.

        `still` [H, W] tells which pixels of the photograph show what stands still.
        """
        import cv2

        depth = seen.depth.cpu().numpy()
        # Without specks: single pixels beside a jump that went another way than what is around.
        known = cv2.morphologyEx(np.isfinite(depth).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
        colors = _looked_up(photograph, seen, cv2.INTER_CUBIC)
        stands = _looked_up(still.astype(np.uint8), seen, cv2.INTER_NEAREST)
        evidence = self._compare(colors, depth, known, known & (stands > 0))
        share = self._feathered(self._enlarged(evidence.agreement) * known)[..., None]
        rest = self._rest(evidence)
        rgb = np.clip(np.rint(rest + share * (colors - rest)), 0, 255).astype(np.uint8)
        taken = share[..., 0] > 0.5
        own = self._model_depth()
        origin = np.where(np.isfinite(own), evidence.origin, Origin.NONE)
        return LiftedFrame(
            rgb=rgb,
            depth=np.where(taken, depth, own).astype(np.float32),
            origin=np.where(taken, Origin.PHOTOGRAPH, origin).astype(np.uint8),
        )

    def resembles(self, seen: Carried, photograph: np.ndarray) -> bool:
        """Whether the frame shows the photograph's things well enough to tell what becomes of them."""
        import cv2

        depth = seen.depth.cpu().numpy()
        known = np.isfinite(depth)
        return self._compare(_looked_up(photograph, seen, cv2.INTER_LINEAR), depth, known, known).trust > 0.5

    def _compare(self, colors: np.ndarray, depth: np.ndarray, known: np.ndarray, stands: np.ndarray) -> _Evidence:
        covered = known.astype(np.float32)
        share = self._in_cells(covered)
        whole = np.maximum(share, 1e-3)
        carried = self._in_cells(colors * covered[..., None]) / whole[..., None]
        inverse = self._in_cells(np.divide(1, depth, out=np.zeros_like(depth), where=known)) / whole
        seen = share > _SHARE
        still = seen & (self._in_cells(stands.astype(np.float32)) > 0.5 * share)
        # Where nothing moves, depths differ by the model's errors: what hides a point is nearer than those explain.
        nearer = self._inverse / np.maximum(inverse, 1e-9) - 1
        quiet = still & ~self._moving & (self._inverse > 0)
        error = _median(np.abs(nearer[quiet]))
        hidden = still & self._moving & (nearer > max(IN_FRONT, EXCESS * error))
        difference = (carried - self._cell_rgb) * seen[..., None]
        overall = np.median(difference[quiet], axis=0) if quiet.sum() >= 32 else np.zeros(3)
        weight = np.maximum(_blurred(seen.astype(np.float32), NEIGHBORHOOD), 1e-3)
        off = np.abs(_blurred(difference - overall * seen[..., None], NEIGHBORHOOD)).mean(axis=-1) / weight
        usual = _median(off[seen])
        same, fade = max(SAME_COLOR, EXCESS * usual), max(FADE, 2 * EXCESS * usual)
        unlike = self._doubt * float(np.percentile(off[seen], 75)) if seen.any() else 0.0
        trust = float(np.clip((FOREIGN - unlike) / (FOREIGN - FAMILIAR), 0, 1))
        agrees = np.clip((same + fade - off) / fade, 0, 1) * ~hidden
        agreement = seen * (trust * agrees + (1 - trust))
        return _Evidence(
            agreement=np.clip(2 * agreement - 0.5, 0, 1).astype(np.float32),
            tone=_spread(difference, agreement * share * ~self._moving),
            filled=None if trust == 1 else _filled(carried, inverse, agreement * seen > 0.5),
            trust=trust,
        )

    def _rest(self, evidence: _Evidence) -> np.ndarray:
        """Colors [H, W, 3] float32 of what the photograph does not show: the frame's own, and what is filled in."""
        own = self._enlarged(self._rgb, cubic=True) + self._enlarged(evidence.tone, cubic=True)
        if evidence.filled is None:
            return own
        return evidence.trust * own + (1 - evidence.trust) * self._enlarged(evidence.filled, cubic=True)

    def _model_depth(self) -> np.ndarray:
        known = (self._own_inverse > 0).astype(np.float32)
        inverse, share = self._enlarged(self._own_inverse), self._enlarged(known)
        return np.divide(share, inverse, out=np.full(self._size, np.nan, np.float32), where=share > 0.5)

    def _feathered(self, mask: np.ndarray) -> np.ndarray:
        """The mask as a share that falls to 0 towards its border, inwards alone."""
        import cv2

        inner = cv2.erode(mask.astype(np.float32), np.ones((3, 3), np.uint8))
        return np.minimum(mask, cv2.GaussianBlur(inner, (0, 0), _FEATHER))

    def _in_cells(self, values: np.ndarray) -> np.ndarray:
        import cv2

        height, width = self._cells
        return cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)

    def _enlarged(self, values: np.ndarray, *, cubic: bool = False) -> np.ndarray:
        import cv2

        height, width = self._size
        return cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR)


def _looked_up(image: np.ndarray, seen: Carried, interpolation: int) -> np.ndarray:
    """The first frame's image [H, W, ...] at the places that are seen."""
    import cv2

    column, row = (np.nan_to_num(place.cpu().numpy(), nan=-1) for place in (seen.column, seen.row))
    # Borders are repeated: a pixel at the border of the photograph lies up to half a pixel outside.
    return cv2.remap(image, column, row, interpolation, borderMode=cv2.BORDER_REPLICATE)


def _spread(difference: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What [h, w, 3] the model's colors lack of the photograph's, from the places with a weight [h, w] around."""
    weight = weight.astype(np.float32)
    total, lack = np.full(weight.shape, 1e-4, np.float32), np.zeros((*weight.shape, 3), np.float32)
    for sigma, share in ((2.0, 1.0), (6.0, 0.03), (20.0, 0.001)):  # near ones first, and always some
        total += share * _blurred(weight, sigma)
        lack += share * _blurred(difference * weight[..., None], sigma)
    return np.clip(lack / total[..., None], -TONE, TONE)


def _filled(colors: np.ndarray, inverse: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Colors [h, w, 3] where they are not `known` [h, w]: carried in from what lies behind, as novel views do it."""
    if not known.any():
        return colors
    depth = np.where(known, 1 / np.maximum(inverse, 1e-9), np.inf).astype(np.float32)
    image = np.clip(np.rint(colors), 0, 255).astype(np.uint8)
    return OpenCVInpainter()(image, depth).astype(np.float32)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else 0.0


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(values, (0, 0), sigma)
