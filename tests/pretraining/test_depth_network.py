"""Pretraining of the depth network: short training, image sizes, and the output folder."""

import json

import numpy as np
import pytest

from fourdnex.annotation import DepthNetwork
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.datasets.worlds.families import FAMILIES
from fourdnex.pretraining.depth_network import DepthPretraining, build_network, measure_depth, pretrain_depth, processor


@pytest.mark.slow
def test_one_minute_of_training_improves_the_network(tmp_path):
    progress = []
    config = DepthPretraining(minutes=1.0, batch_size=4)
    folder = pretrain_depth(config, tmp_path / "depth", progress=progress.append)
    log = [json.loads(line) for line in (folder / "training" / "depth.jsonl").read_text().splitlines()]
    assert log[0]["config"]["minutes"] == 1.0
    assert progress[-1] == json.dumps(log[-1])
    assert log[-1]["abs_rel"] < 0.8 * measure_depth(build_network())
    assert set(log[-1]["families"]) == set(FAMILIES)
    world = render_world(HELD_OUT_SEEDS[0], num_frames=1)
    assert DepthNetwork(folder).annotate(world).pointmaps.shape == (1, 64, 96, 3)


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (96, 96), (96, 144)])
def test_training_sizes_are_not_resized(size):
    image = np.zeros((*size, 3), np.uint8)
    assert tuple(processor()(images=image, return_tensors="pt").pixel_values.shape[-2:]) == size


def test_larger_images_keep_their_aspect_ratio():
    image = np.zeros((480, 720, 3), np.uint8)
    assert tuple(processor()(images=image, return_tensors="pt").pixel_values.shape[-2:]) == (96, 144)


def test_only_a_depth_network_is_replaced(tmp_path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="expected nothing, an empty folder or a depth network to replace"):
        pretrain_depth(DepthPretraining(minutes=0.01), tmp_path)
    assert (tmp_path / "letters.txt").read_text() == "mine"
