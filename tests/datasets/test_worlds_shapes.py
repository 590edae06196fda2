"""Unit shapes and scenes against hand-derived intersections and normals."""

import numpy as np
import pytest

from fourdnex.datasets.worlds import shapes
from fourdnex.datasets.worlds.camera_motion import CameraMotion
from fourdnex.datasets.worlds.finishes import PATTERNS, Finish
from fourdnex.datasets.worlds.raycast_solids import cast_scene, focal_length
from fourdnex.datasets.worlds.solids import Ground, Motion, Scene, Sky, Solid, yaw_matrix

GRAY = Finish(pattern="plain", first=(0.5, 0.5, 0.5), second=(1, 1, 1))


def _three(*values: float) -> list[np.ndarray]:
    return [np.array([value], np.float32) for value in values]


@pytest.mark.parametrize(
    ("shape", "origin", "direction", "distance"),
    [
        ("box", (0.5, 0.5, -3), (0, 0, 1), 2.0),
        ("ellipsoid", (0, 0, -3), (0, 0, 1), 2.0),
        ("cylinder", (0, 0, -3), (0, 0, 1), 2.0),
        ("cylinder", (0.2, -4, 0), (0, 1, 0), 3.0),  # the cap
        ("cone", (0, 0, -3), (0, 0, 1), 2.5),  # half as wide at half height
        ("cone", (0.5, 4, 0), (0, -1, 0), 3.0),  # from below
        ("prism", (-3, 0, 0), (1, 0, 0), 2.5),  # half as wide at half height
        ("pyramid", (0, 0, -3), (0, 0, 1), 2.5),
        ("shell", (0, 0, 0.5), (0, 0, 1), 0.5),  # from the inside
    ],
)
def test_intersection_matches_hand_derived_distance(shape, origin, direction, distance):
    hit = shapes.intersect(shape, _three(*origin), _three(*direction))
    assert hit[0] == pytest.approx(distance, abs=1e-5)
    miss = shapes.intersect(shape, _three(5, 5, -3), _three(0, 0, 1))
    assert miss[0] == shapes.MISS


def test_shell_without_ceiling_is_open_only_at_the_top():
    up, down = (shapes.intersect("shell", _three(0, 0, 0), _three(0, y, 0.1), open_top=True)[0] for y in (-1, 1))
    assert up == shapes.MISS and down == pytest.approx(1)


@pytest.mark.parametrize(
    ("shape", "point", "normal"),
    [
        ("box", (1, 0.2, 0), (1, 0, 0)),
        ("shell", (0, 1, 0), (0, -1, 0)),
        ("cylinder", (0.5, -1, 0), (0, -1, 0)),
        ("cone", (0.5, 0, 0), (2, -1, 0)),  # radius 1 over height 2: the slope rises 2 per unit outward
        ("prism", (0.5, 0, 0), (2, -1, 0)),
    ],
)
def test_normals_match_hand_derived_directions(shape, point, normal):
    found = np.array(shapes.surface_normal(shape, _three(*point)))[:, 0]
    assert found / np.linalg.norm(found) == pytest.approx(np.array(normal) / np.linalg.norm(normal), abs=1e-5)


def _scene(*solids: Solid, ground: Ground | None = None) -> Scene:
    camera = CameraMotion(
        focal=1.0, position=np.array([0, -1.0, 0]), pitch=0.0, yaw=0.0, motion="still", amount=0.0, distance=4.0
    )
    sky = Sky(zenith=(0, 0, 1), horizon=(1, 1, 1), radius=30.0)
    light_position = np.array([0.0, -1e4, 0.0])
    return Scene(solids=solids, camera=camera, light_position=light_position, ambient=0.5, ground=ground, sky=sky)


def test_rotated_box_is_hit_at_its_edge():
    box = Solid(
        shape="box", half=np.ones(3), center=np.array([0, -1.0, 5]), rotation=yaw_matrix(np.pi / 4), finish=GRAY
    )
    depth = cast_scene(_scene(box), num_frames=1, height=33, width=33).depth[0]
    assert depth[16, 16] == pytest.approx(5 - np.sqrt(2), abs=1e-3)


def test_hits_on_uneven_ground_match_its_height():
    ground = Ground(finish=GRAY, slope=(0.0, 0.1), waves=np.array([[0.2, 0.5, 1.0, 0.3]]))
    frames = cast_scene(_scene(ground=ground), num_frames=1, height=48, width=72)
    focal = focal_length(1.0, 48, 72)
    rows, columns = np.nonzero(frames.depth[0] < 25)
    depth = frames.depth[0][rows, columns].astype(np.float64)
    x, y = (columns - 35.5) / focal * depth, (rows - 23.5) / focal * depth - 1.0
    assert len(rows) > 300
    assert -y == pytest.approx(ground.height(x, depth), abs=2e-2)


def test_spin_rotates_about_the_pivot():
    motion = Motion(motion="spin", turns=0.25, pivot=np.array([1.0, 0.0, 2.0]))
    rotation, shift = motion.transforms(np.array([0.0, 1.0]))
    moved = rotation @ np.array([2.0, 0.0, 2.0]) + shift
    assert moved[0] == pytest.approx([2, 0, 2])
    assert moved[1] == pytest.approx([1, 0, 1])  # a quarter revolution maps x to -z


@pytest.mark.parametrize("pattern", PATTERNS)
def test_finishes_interpolate_between_their_two_colors(pattern):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-5, 5, size=(2, 500)).astype(np.float32)
    finish = Finish(pattern=pattern, first=(0.2, 0.3, 0.4), second=(0.8, 0.7, 0.6), cell=0.5)
    near = finish.color(a, b, np.full(500, 0.01, np.float32))
    assert near.shape == (500, 3)
    assert (near >= np.array([0.2, 0.3, 0.4]) - 1e-5).all() and (near <= np.array([0.8, 0.7, 0.6]) + 1e-5).all()


def test_checkers_are_sharp_nearby_and_average_at_a_distance():
    finish = Finish(pattern="checks", first=(0, 0, 0), second=(1, 1, 1), cell=1.0)
    a = np.array([0, 1, 0], np.float32)
    b = np.array([0, 0, 1], np.float32)
    values = finish.color(a, b, np.full(3, 0.01, np.float32))[:, 0]
    assert set(values.tolist()) == {0.0, 1.0} and values[1] == values[2] != values[0]
    assert finish.color(a, b, np.full(3, 5.0, np.float32)) == pytest.approx(0.5)
