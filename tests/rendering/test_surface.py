import numpy as np
import pytest
import torch

from fourdnex.rendering import Surface, flying_pixels
from fourdnex.rendering.surface import scaled_intrinsics
from fourdnex.scene import Scene4D

NEAR, FAR = 2.0, 8.0


def make_scene(depth: np.ndarray) -> Scene4D:
    height, width = depth.shape
    lens = np.array([[float(width), 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1]])
    rgb = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    return Scene4D(rgb=rgb, depth=depth[None], intrinsics=lens, camera_to_world=np.eye(4)[None])


def step(*between: float) -> torch.Tensor:
    line = [NEAR] * 8 + list(between) + [FAR] * 8
    return torch.tensor([line] * 12)


@pytest.mark.parametrize("between", [[4.0], [2.7, 4.8], [2.5, 4.0, 6.0]])
def test_the_smear_of_an_edge_flies(between):
    flying = flying_pixels(step(*between))
    assert flying[:, 8 : 8 + len(between)].any(dim=1).all()
    assert not flying[:, :7].any() and not flying[:, 10 + len(between) :].any()


def test_clean_edges_thin_things_and_ground_do_not_fly():
    assert not flying_pixels(step()).any()
    thin = torch.full((12, 17), FAR)
    thin[:, 8] = NEAR
    assert not flying_pixels(thin).any()
    ground = (10 / torch.arange(1, 17)).view(-1, 1).expand(16, 20)  # inverse depth linear in the row
    assert not flying_pixels(ground).any()


@pytest.mark.parametrize("roll_deg", [0, 10, 30, 45, 80])
@pytest.mark.parametrize("ahead", [0.0, 0.5])
def test_a_wall_stays_closed_however_the_camera_is_turned(roll_deg, ahead):
    surface = Surface(make_scene(np.full((24, 24), 2.0)), 0)
    c, s = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    pose = np.array([[c, -s, 0, 0.013], [s, c, 0, -0.007], [0, 0, 1, ahead], [0, 0, 0, 1]])
    _, depth = surface.look(pose, make_scene(np.ones((24, 24))).intrinsics)
    assert torch.isfinite(depth[5:-5, 5:-5]).all()  # any roll keeps the middle on the wall
    assert depth[12, 12] == pytest.approx(2 - ahead)


def test_a_longer_lens_enlarges_about_the_middle():
    scene = make_scene(np.full((8, 8), 2.0))
    lens = scene.intrinsics.copy()
    lens[0, 0] = lens[1, 1] = 16
    image, _ = Surface(scene, 0).look(np.eye(4), lens)
    # Pixel u shows the point of pixel (u - 3.5) / 2 + 3.5: 3 -> 3.25, 0 -> 1.75.
    assert (image[3, 3].numpy() == scene.rgb[0, 3, 3]).all()
    assert (image[0, 0].numpy() == scene.rgb[0, 2, 2]).all()


def test_a_scaled_lens_keeps_the_border():
    lens = scaled_intrinsics(np.array([[10.0, 0, 4.5], [0, 10, 3.5], [0, 0, 1]]), 3)
    # 10 x 8 pixels reach from -0.5 to 9.5; 30 x 24 have their middle at 14.5, 11.5.
    assert lens == pytest.approx(np.array([[30.0, 0, 14.5], [0, 30, 11.5], [0, 0, 1]]))
