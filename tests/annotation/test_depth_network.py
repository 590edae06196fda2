"""Depth networks: real classes at tiny size, in PyTorch and ONNX Runtime; other networks raise."""

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

from fourdnex.annotation import AnnotationError, DepthNetwork
from fourdnex.annotation.depth_network import TINY, network_identity
from fourdnex.annotation.lite_depth import LiteDepthForDepthEstimation
from fourdnex.clip import Clip
from fourdnex.datasets.worlds import HELD_OUT_SEEDS, render_world
from fourdnex.pretrained import pretrained


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A tiny Depth Anything network with random weights, in the layout of the hub."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("depth") / "network"
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 8}
    backbone = Dinov2Config(image_size=64, out_indices=[1, 2, 3, 4], reshape_hidden_states=False, **sizes)
    widths = {"reassemble_hidden_size": 16, "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=8,
        head_hidden_size=8,
        depth_estimation_type="metric",
        max_depth=20,
        **widths,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    size = {"height": 64, "width": 96}
    means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    DPTImageProcessor(size=size, keep_aspect_ratio=False, ensure_multiple_of=8, **means).save_pretrained(folder)
    return folder


@pytest.fixture
def own(network, tmp_path):
    """A copy that tests may modify."""
    return shutil.copytree(network, tmp_path / "network")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def clip_of(image, frames=1):
    return Clip(name="image", rgb=np.repeat(image[None], frames, axis=0))


def write_onnx(file, *, output="predicted_depth", more=()):
    """A network whose depth is 2 plus the mean of the channels; `more` are additional scalar outputs."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Add", ["mean", "two"], [output]),
    ]
    constants = [helper.make_tensor("two", number, [1], [2.0])]
    outputs = [helper.make_tensor_value_info(output, number, ["b", "h", "w"])]
    for name, value in more:
        constants.append(helper.make_tensor(f"{name} value", number, [1], [value]))
        nodes.append(helper.make_node("Identity", [f"{name} value"], [name]))
        outputs.append(helper.make_tensor_value_info(name, number, [1]))
    inputs = [helper.make_tensor_value_info("pixel_values", number, ["b", 3, "h", "w"])]
    graph = helper.make_graph(nodes, "depth", inputs, outputs, constants)
    opset = [helper.make_opsetid("", 17)]
    file.parent.mkdir(exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), file)
    return file


def test_an_image_gets_depth_and_a_camera(network, image):
    clip = DepthNetwork(network).annotate(clip_of(image))
    assert clip.annotator == "depth-network"
    assert clip.depth.shape == (1, 64, 96) and clip.depth.dtype == np.float32 and (clip.depth > 0).all()
    assert (clip.confidence == 1).all()
    # a horizontal field of view of 60 degrees
    assert clip.intrinsics[0, 0] == pytest.approx(48 / np.tan(np.radians(30)))
    assert clip.intrinsics[:2, 2].tolist() == [47.5, 31.5]
    assert np.array_equal(clip.camera_to_world[0], np.eye(4))
    wide = DepthNetwork(network, field_of_view=90).annotate(clip_of(image))
    assert wide.intrinsics[0, 0] == pytest.approx(48)


def test_another_model_type_is_loaded_by_its_own_classes(tmp_path, image):
    from transformers import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor

    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    GLPNForDepthEstimation(GLPNConfig(**sizes, decoder_hidden_size=8)).save_pretrained(tmp_path)
    GLPNImageProcessor().save_pretrained(tmp_path)
    depth, _ = DepthNetwork(tmp_path).depth(image)
    assert depth.shape == (64, 96) and ((depth > 0) & (depth < 10)).all()


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
@pytest.mark.parametrize("kind", ["depth_pro", "zoedepth"])
def test_errors_name_torchvision_if_it_is_missing(own, kind):
    (own / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ValueError, match=f"a network of type {kind} needs torchvision; pip install torchvision"):
        DepthNetwork(own)


def test_depth_has_the_size_and_orientation_of_the_image(own, image):
    """The processor resizes the image to the input size of the network, and the depth back to the image size."""
    file = write_onnx(own / "onnx" / "model.onnx")
    bright_left = np.zeros((120, 180, 3), np.uint8)
    bright_left[:, :90] = 255
    depth, field_of_view = DepthNetwork(file).depth(bright_left)
    assert depth.shape == (120, 180) and field_of_view == 60
    assert depth[:, :80] == pytest.approx(3, abs=1e-3) and depth[:, 100:] == pytest.approx(1, abs=1e-3)
    exact, _ = DepthNetwork(file).depth(image)
    assert exact == pytest.approx(2 + (image / 127.5 - 1).mean(axis=-1), abs=1e-4)


def test_the_configuration_of_an_onnx_file_is_beside_it_or_one_folder_above(own, image):
    beside, above = write_onnx(own / "model.onnx"), write_onnx(own / "onnx" / "model.onnx")
    assert np.array_equal(DepthNetwork(beside).depth(image)[0], DepthNetwork(above).depth(image)[0])
    (own / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.onnx: expected config\.json and preprocessor_config\.json"):
        DepthNetwork(above)


@pytest.mark.slow  # exporting takes half a minute
def test_onnx_gives_the_same_depth_as_pytorch(tmp_path):
    pytest.importorskip("onnxscript")
    folder = shutil.copytree(pretrained(TINY), tmp_path / "network")
    exported = torch.onnx.export(
        LiteDepthForDepthEstimation.from_pretrained(folder, dtype=torch.float32).eval(),
        (torch.zeros(1, 3, 64, 96),),
        dynamo=True,
        input_names=["pixel_values"],
        output_names=["predicted_depth"],
    )
    exported.save(folder / "model.onnx")
    image = render_world(HELD_OUT_SEEDS[0], num_frames=1).rgb[0]
    here, there = DepthNetwork(folder).depth(image)[0], DepthNetwork(folder / "model.onnx").depth(image)[0]
    assert here.std() > 0.5
    assert there == pytest.approx(here, rel=1e-4)


def test_depth_of_worlds_is_close_to_the_truth():
    errors = []
    for seed in HELD_OUT_SEEDS[:8]:
        world = render_world(seed, num_frames=1)
        found, true = DepthNetwork("tiny").depth(world.rgb[0])[0], world.depth[0]
        errors.append(np.mean(np.abs(found * np.median(true / found) - true) / true))
    assert np.mean(errors) < 0.15


def test_relative_inverse_depth_becomes_depth(own, image):
    """The same outputs as metric depth and as relative inverse depth: in the latter, the largest is the nearest."""
    config = json.loads((own / "config.json").read_text())
    weights = load_file(own / "model.safetensors")
    for layer in (1, 2, 3):  # with their random weights, all outputs are about 1e-9
        weights[f"head.conv{layer}.weight"] *= 100
    save_file(weights, own / "model.safetensors", {"format": "pt"})
    raw, _ = DepthNetwork(own).depth(image)
    # The heads differ (sigmoid times max_depth, and ReLU), but both are monotonic in the same features.
    (own / "config.json").write_text(json.dumps(config | {"depth_estimation_type": "relative", "max_depth": 1}))
    depth, field_of_view = DepthNetwork(own).depth(image)
    assert depth.shape == (64, 96) and depth.dtype == np.float32 and field_of_view == 60
    assert depth.std() > 0 and raw.std() > 0
    assert np.corrcoef(depth.ravel(), raw.ravel())[0, 1] < 0
    assert np.median(depth) == pytest.approx(4.0, rel=1e-3)


def test_dpt_predicts_relative_depth(tmp_path, image):
    from transformers import DPTConfig, DPTForDepthEstimation

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    necks = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "backbone_out_indices": [0, 1, 2, 3]}
    config = DPTConfig(**sizes, **necks, image_size=64, patch_size=16, is_hybrid=False)
    DPTForDepthEstimation(config).save_pretrained(tmp_path)
    DPTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    clip = DepthNetwork(tmp_path).annotate(clip_of(image))
    assert (clip.depth > 0).all() and np.median(clip.depth) == pytest.approx(4.0, rel=1e-3)


def test_dpt_with_a_dinov2_backbone_raises(own):
    from transformers import Dinov2Config, DPTConfig

    DPTConfig(backbone_config=Dinov2Config(hidden_size=16, num_attention_heads=2)).save_pretrained(own)
    with pytest.raises(ValueError, match=r"expected DPT of relative depth \(MiDaS\), got one with a DINOv2 backbone"):
        DepthNetwork(own)


def test_networks_of_other_tasks_raise(own):
    config = json.loads((own / "config.json").read_text()) | {"model_type": "bert"}
    (own / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"expected a depth network .*got bert"):
        DepthNetwork(own)


def test_errors_name_missing_and_damaged_files(own, tmp_path):
    for nowhere in (tmp_path / "none", "none", "./my/none"):
        with pytest.raises(FileNotFoundError, match=r"none: expected a folder with a depth network, or a hub id"):
            DepthNetwork(nowhere)
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such ONNX file"):
        DepthNetwork(tmp_path / "none.onnx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected a depth network's config\.json"):
        DepthNetwork(tmp_path / "empty")
    weights = own / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="network: expected undamaged safetensors weights"):
        DepthNetwork(own)
    file = own / "model.onnx"
    file.write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"model\.onnx: expected an ONNX network"):
        DepthNetwork(file)
    write_onnx(file, output="disparity")
    with pytest.raises(ValueError, match=r"expected input pixel_values and output predicted_depth, got .*disparity"):
        DepthNetwork(file)
    with pytest.raises(ValueError, match="field_of_view: expected degrees between 0 and 180, got 0"):
        DepthNetwork(own, field_of_view=0)


def test_pickled_weights_are_not_read(own):
    (own / "model.safetensors").unlink()
    torch.save({}, own / "pytorch_model.bin")
    with pytest.raises(ValueError, match="network: expected undamaged safetensors weights"):
        DepthNetwork(own)


def test_a_clip_of_two_frames_raises(network, image):
    with pytest.raises(AnnotationError, match="image: expected one frame, got 2"):
        DepthNetwork(network).annotate(clip_of(image, 2))


def test_the_identity_depends_on_weights_and_configuration(own):
    before = network_identity(own)
    assert before == network_identity(own)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"max_depth": 10}))
    assert network_identity(own) != before
    file = write_onnx(own / "model.onnx")
    of_the_file = network_identity(file)
    write_onnx(file, more=[("field_of_view", 70.0)])
    assert network_identity(file) != of_the_file
    assert network_identity("depth/of-the-hub") == "hub:depth/of-the-hub"
