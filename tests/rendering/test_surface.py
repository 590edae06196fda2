import numpy as np
import pytest
import torch

from fourdnex.rendering import Surface, flying_pixels
from fourdnex.rendering.surface import scaled_intrinsics
from fourdnex.scene import Scene4D

NEAR, FAR = 2.0, 8.0


def make_scene(depth: np.ndarray) -> Scene4D:
    height, width = depth.shape
    intrinsics = np.array([[float(width), 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1]])
    rgb = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    return Scene4D(rgb=rgb, depth=depth[None], intrinsics=intrinsics, camera_to_world=np.eye(4)[None])


def step(*between: float) -> torch.Tensor:
    line = [NEAR] * 8 + list(between) + [FAR] * 8
    return torch.tensor([line] * 12)


@pytest.mark.parametrize("between", [[4.0], [2.7, 4.8], [2.5, 4.0, 6.0]])
def test_interpolated_depth_at_an_edge_is_flying(between):
    flying = flying_pixels(step(*between))
    assert flying[:, 8 : 8 + len(between)].any(dim=1).all()
    assert not flying[:, :7].any() and not flying[:, 10 + len(between) :].any()


def test_sharp_edges_thin_objects_and_ground_are_not_flying():
    assert not flying_pixels(step()).any()
    thin = torch.full((12, 17), FAR)
    thin[:, 8] = NEAR
    assert not flying_pixels(thin).any()
    ground = (10 / torch.arange(1, 17)).view(-1, 1).expand(16, 20)  # inverse depth linear in the row
    assert not flying_pixels(ground).any()


@pytest.mark.parametrize("roll_deg", [0, 10, 30, 45, 80])
@pytest.mark.parametrize("ahead", [0.0, 0.5])
def test_wall_has_no_gaps_under_camera_roll(roll_deg, ahead):
    surface = Surface(make_scene(np.full((24, 24), 2.0)), 0)
    c, s = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    pose = np.array([[c, -s, 0, 0.013], [s, c, 0, -0.007], [0, 0, 1, ahead], [0, 0, 0, 1]])
    _, depth = surface.render(pose, make_scene(np.ones((24, 24))).intrinsics)
    assert torch.isfinite(depth[5:-5, 5:-5]).all()  # the center is on the wall for any roll
    assert depth[12, 12] == pytest.approx(2 - ahead)


def test_longer_focal_length_enlarges_about_the_center():
    scene = make_scene(np.full((8, 8), 2.0))
    intrinsics = scene.intrinsics.copy()
    intrinsics[0, 0] = intrinsics[1, 1] = 16
    image, _ = Surface(scene, 0).render(np.eye(4), intrinsics)
    # Pixel u shows the point of pixel (u - 3.5) / 2 + 3.5: 3 -> 3.25, 0 -> 1.75.
    assert (image[3, 3].numpy() == scene.rgb[0, 3, 3]).all()
    assert (image[0, 0].numpy() == scene.rgb[0, 2, 2]).all()


def test_scaled_intrinsics_keep_the_border():
    intrinsics = scaled_intrinsics(np.array([[10.0, 0, 4.5], [0, 10, 3.5], [0, 0, 1]]), 3)
    # 10 x 8 pixels span -0.5 to 9.5; the center of 30 x 24 pixels is 14.5, 11.5.
    assert intrinsics == pytest.approx(np.array([[30.0, 0, 14.5], [0, 30, 11.5], [0, 0, 1]]))
