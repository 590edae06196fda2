"""Strategies for cameras, depth, scenes and tracks."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from fourdnex.scene import Origin, Scene4D
from fourdnex.tracks import Tracks

SMALL = st.integers(1, 5)
names = st.text(st.characters(exclude_categories=["C"]), max_size=12)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    """Finite numbers from `low` to `high`, exact in float32."""
    return st.floats(np.float32(low).item(), np.float32(high).item(), width=32)


generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def rotations(draw, count: int, max_angle: float = np.pi) -> np.ndarray:
    """Rotations [count, 3, 3] float64 by less than `max_angle`."""
    rng = draw(generators)
    axes = rng.normal(size=(count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = [draw(st.floats(0, max_angle, exclude_max=True)) for _ in range(count)]
    return Rotation.from_rotvec(axes * np.array(angles)[:, None]).as_matrix()


@st.composite
def poses(draw, count: int) -> np.ndarray:
    """Rigid poses [count, 4, 4] float64, within 10 units of the origin."""
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, :3, :3] = draw(rotations(count))
    matrices[:, :3, 3] = draw(hnp.arrays(np.float64, (count, 3), elements=st.floats(-10, 10)))
    return matrices


@st.composite
def intrinsics(draw, height: int, width: int) -> np.ndarray:
    """Intrinsics [3, 3] float64, with a focal length of 0.5 to 3 widths."""
    focal = [draw(st.floats(0.5, 3)) * width for _ in range(2)]
    center = draw(st.floats(0, width - 1)), draw(st.floats(0, height - 1))
    return np.array([[focal[0], 0, center[0]], [0, focal[1], center[1]], [0, 0, 1]])


@st.composite
def depths(draw, shape: tuple[int, ...], *, low: float = 0.1, high: float = 100, invalid: bool = True) -> np.ndarray:
    """Depth float32 from `low` to `high`; NaN in some pixels if `invalid`."""
    elements = floats(low, high)
    return draw(hnp.arrays(np.float32, shape, elements=(st.just(np.nan) | elements) if invalid else elements))


@st.composite
def tracks(draw, num_frames: int) -> Tracks:
    """Up to 6 tracks through `num_frames` frames."""
    count, rng = draw(st.integers(0, 6)), draw(generators)
    first = np.sort(rng.integers(0, num_frames, count))
    has_started = np.arange(num_frames) >= first[:, None]
    moves = rng.random(count) < 0.5
    positions = rng.normal(size=(count, 1, 3)) * draw(floats(1e-3, 1e3)) * np.ones((1, num_frames, 1))
    positions += np.where(moves[:, None, None], rng.normal(size=(count, num_frames, 3)), 0)
    return Tracks(
        positions=np.where(has_started[..., None], positions, np.nan),
        visible=has_started & (rng.random((count, num_frames)) < 0.5),
        first_frame=first,
        pixel=rng.integers(0, 1000, (count, 2)),
        rgb=rng.integers(0, 256, (count, 3)),
        moves=moves,
    )


@st.composite
def scenes(draw) -> Scene4D:
    """Small scenes, each with some of the optional fields."""
    frames = draw(st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 17]), st.sampled_from([1, 3, 16])))
    rng = draw(generators)
    provenance = draw(st.dictionaries(names, names | st.none() | st.integers(-5, 5) | st.lists(names), max_size=3))
    return Scene4D(
        rgb=rng.integers(0, 256, (*frames, 3), np.uint8),
        depth=draw(depths(frames)),
        intrinsics=draw(intrinsics(*frames[1:])),
        camera_to_world=draw(poses(frames[0])),
        confidence=rng.random(frames) if draw(st.booleans()) else None,
        origin=rng.integers(0, max(Origin) + 1, frames, np.uint8) if draw(st.booleans()) else None,
        tracks=draw(st.none() | tracks(frames[0])),
        fps=draw(st.sampled_from([1.0, 12.5, 23.976, 24.0, 60.0])),
        provenance=provenance,
        name=draw(names),
    )
