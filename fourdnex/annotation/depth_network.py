"""Monocular depth estimation by a depth network in the Hugging Face layout, in PyTorch or ONNX Runtime."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fourdnex.annotation.base import AnnotationError, ClipAnnotator
from fourdnex.annotation.relative_depth import depth_from_inverse
from fourdnex.clip import Clip
from fourdnex.extras import require
from fourdnex.geometry.cameras import default_field_of_view, intrinsics_from_field_of_view
from fourdnex.io.files import sha256_file
from fourdnex.pretrained import pretrained
from fourdnex.quiet import hide_progress_bars

if TYPE_CHECKING:
    import torch

METRIC_TYPES = ("depth_pro", "fourdnex_lite_depth", "glpn", "zoedepth")
"""Model types that predict metric depth; `depth_anything` states it in its configuration. `fourdnex_lite_depth` is the
model type of `fourdnex.annotation.lite_depth`."""
RELATIVE_TYPES = ("dpt",)
"""Model types that predict relative inverse depth (MiDaS), as does a `depth_anything` that is not marked as metric."""
TORCHVISION_TYPES = ("depth_pro", "zoedepth")
"""Model types whose image processors in transformers require torchvision."""
TINY = "fourdnex-tiny-depth"
_INPUT, _DEPTH, _FIELD_OF_VIEW = "pixel_values", "predicted_depth", "field_of_view"
Forward = Callable[["torch.Tensor"], Any]


class DepthNetwork(ClipAnnotator):
    """Estimates depth, and the field of view if the network predicts it (as Depth Pro does), of single images.

    `network` is "tiny" (shipped with this repository, trained on procedural worlds), a folder or hub id with
    `config.json`, `preprocessor_config.json` and safetensors weights, or an ONNX file `NAME.onnx` with input
    `pixel_values`, output `predicted_depth`, and these two configurations beside it or in the folder above, as on the
    hub. No code from these files is executed. Scale and shift of relative depth are determined by the prior of
    `fourdnex.annotation.relative_depth`.

    Raises:
        FileNotFoundError: the network or its configuration does not exist.
        ValueError: the network does not predict depth, or its weights are damaged or unsupported.
    """

    name: ClassVar[str] = "depth-network"
    version: ClassVar[str] = "1"
    license: ClassVar[str] = "the network's own"

    def __init__(
        self,
        network: str | os.PathLike[str] = "tiny",
        *,
        field_of_view: float | None = None,
        device: str | None = None,
    ) -> None:
        import torch
        from transformers import AutoImageProcessor

        if field_of_view is not None and not 0 < field_of_view < 180:
            raise ValueError(f"field_of_view: expected degrees between 0 and 180, got {field_of_view}")
        self.field_of_view = field_of_view
        onnx_file, folder = _locate(network)
        self.is_relative = _predicts_relative_depth(folder)
        """Whether the scale and shift of its inverse depth are unknown, and determined by the prior."""
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._processor = AutoImageProcessor.from_pretrained(folder)
        self._forward, self._accepts_all_sizes = (
            (_load_torch(folder, device), True) if onnx_file is None else _load_onnx(onnx_file, device)
        )

    def annotate(self, clip: Clip) -> Clip:
        """The clip, of one frame, with depth and a pinhole camera; the confidence is 1 wherever there is depth.

        Raises:
            AnnotationError: the clip has several frames, or no pixel has a valid depth.
        """
        if clip.num_frames != 1:
            raise AnnotationError(f"{clip.name}: expected one frame, got {clip.num_frames}")
        depth, field_of_view = self.depth(clip.rgb[0])
        if not (valid := np.isfinite(depth) & (depth > 0)).any():
            raise AnnotationError(f"{clip.name}: expected depth above 0 from the network, got none")
        return replace(
            clip,
            annotator=self.name,
            depth=np.where(valid, depth, np.float32(np.nan))[None],
            intrinsics=intrinsics_from_field_of_view(field_of_view, height=clip.height, width=clip.width),
            camera_to_world=np.eye(4, dtype=np.float32)[None],
            confidence=valid[None].astype(np.float32),
        )

    def depth(self, rgb: np.ndarray) -> tuple[np.ndarray, float]:
        """Depth [H, W] float32 in meters (z in the camera's frame) of an image [H, W, 3] uint8, and its field of view.

        The field of view is horizontal, in degrees: as predicted by the network, else `field_of_view`, else
        `default_field_of_view`. The scale of relative depth is that of the prior.
        """
        import torch

        size = _input_size(self._processor, rgb.shape[:2]) if self._accepts_all_sizes else {}
        with torch.inference_mode():
            outputs = self._forward(self._processor(images=rgb, return_tensors="pt", **size)[_INPUT])
        # As in the pipeline of transformers: the source size for ZoeDepth, the target size for all others.
        (result,) = self._processor.post_process_depth_estimation(outputs, [rgb.shape[:2]])
        predicted = result.get(_FIELD_OF_VIEW)
        depth = result[_DEPTH].float().cpu().numpy()
        if depth.shape != rgb.shape[:2]:
            raise AnnotationError(f"expected depth of shape {rgb.shape[:2]} from the network, got {depth.shape}")
        if self.is_relative:
            depth = depth_from_inverse(depth)
        assumed = default_field_of_view(*rgb.shape[:2]) if self.field_of_view is None else self.field_of_view
        return depth, assumed if predicted is None else float(predicted)


def network_identity(network: str | os.PathLike[str]) -> str:
    """Identity of a network: its hub id, or the digest of its weights and configurations.

    Raises:
        FileNotFoundError: the network does not exist.
    """
    onnx_file, folder = _locate(network)
    if not Path(folder).is_dir():
        return f"hub:{folder}"
    files = {*Path(folder).glob("*config.json"), *([onnx_file] if onnx_file else Path(folder).glob("*.safetensors"))}
    return hashlib.sha256("".join(sha256_file(file) for file in sorted(files)).encode()).hexdigest()[:16]


def _input_size(processor: Any, size: tuple[int, ...]) -> dict[str, Any]:
    """Keyword arguments of the processor with the input size of an image of height and width `size`; may be empty.

    A processor with `keep_aspect_ratio` false would distort images of other aspect ratios. Instead, the size of the
    image is kept if its sides are multiples of `ensure_multiple_of` and its area is within a factor of 4/3 of the
    processor's; otherwise the image is scaled to that area.
    """
    step = getattr(processor, "ensure_multiple_of", 1)
    if getattr(processor, "keep_aspect_ratio", True) or not processor.do_resize or step == 1:
        return {}
    (height, width), area = size, processor.size["height"] * processor.size["width"]
    if height % step or width % step or not 3 / 4 <= height * width / area <= 4 / 3:
        sides = ((area * height / width) ** 0.5, (area * width / height) ** 0.5)
        height, width = (max(1, round(side / step)) * step for side in sides)
    return {"size": {"height": height, "width": width}}


def _locate(network: str | os.PathLike[str]) -> tuple[Path | None, str]:
    """The ONNX file, or None, and the folder or hub id of the configurations (and of all other weights)."""
    if str(network) == "tiny":
        return None, str(pretrained(TINY))
    if not str(network).endswith(".onnx"):
        if not os.path.isdir(network) and not re.fullmatch(r"\w[\w.-]*/[\w.-]+", str(network)):  # owner/name on the hub
            raise FileNotFoundError(f"{network}: expected a folder with a depth network, or a hub id, got neither")
        return None, str(network)
    file = Path(network)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such ONNX file")
    for folder in (file.absolute().parent, file.absolute().parent.parent):
        if (folder / "config.json").is_file() and (folder / "preprocessor_config.json").is_file():
            return file, str(folder)
    raise FileNotFoundError(f"{file}: expected config.json and preprocessor_config.json beside it or one folder above")


def _predicts_relative_depth(location: str) -> bool:
    """Whether the network predicts relative inverse depth; raises ValueError if it does not predict depth."""
    from transformers import AutoConfig

    from fourdnex.annotation import lite_depth  # noqa: F401  registers the model type

    try:
        config = AutoConfig.from_pretrained(location)
    except (OSError, ValueError) as error:
        raise ValueError(f"{location}: expected a depth network's config.json ({error})") from error
    model_type = config.model_type
    if model_type in TORCHVISION_TYPES and find_spec("torchvision") is None:
        raise ValueError(f"{location}: a network of type {model_type} needs torchvision; pip install torchvision")
    if model_type == "depth_anything":
        return bool(config.depth_estimation_type != "metric")
    if model_type not in METRIC_TYPES + RELATIVE_TYPES:
        expected = ", ".join(("depth_anything", *METRIC_TYPES, *RELATIVE_TYPES))
        raise ValueError(f"{location}: expected a depth network ({expected}), got {model_type}")
    if model_type == "dpt" and config.backbone_config is not None and config.backbone_config.model_type == "dinov2":
        raise ValueError(
            f"{location}: expected DPT of relative depth (MiDaS), got one with a DINOv2 backbone, which may be metric"
        )
    return model_type in RELATIVE_TYPES


def _load_torch(location: str, device: str) -> Forward:
    """Forward pass of a PyTorch network with safetensors weights."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForDepthEstimation

    try:
        with hide_progress_bars():
            network = AutoModelForDepthEstimation.from_pretrained(location, use_safetensors=True, dtype=torch.float32)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{location}: expected undamaged safetensors weights: {error}") from error
    network = network.eval().to(device)
    return lambda pixels: network(pixel_values=pixels.to(device))


def _load_onnx(file: Path, device: str) -> tuple[Forward, bool]:
    """Forward pass of an ONNX network, and whether it accepts images of all sizes."""
    require("onnxruntime", feature="an ONNX depth network")
    import onnxruntime as ort
    import torch
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = ort.InferenceSession(file, options, providers=providers)
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise ValueError(f"{file}: expected an ONNX network: {error}") from error
    inputs, outputs = [value.name for value in session.get_inputs()], [value.name for value in session.get_outputs()]
    if inputs != [_INPUT] or _DEPTH not in outputs:
        raise ValueError(f"{file}: expected input {_INPUT} and output {_DEPTH}, got {inputs} and {outputs}")

    def forward(pixels: torch.Tensor) -> SimpleNamespace:
        """Run the session on one batch of images."""
        try:
            values = session.run(outputs, {_INPUT: pixels.numpy()})
        except (Fail, InvalidArgument) as error:
            raise ValueError(f"{file}: does not accept an input of shape {tuple(pixels.shape)}: {error}") from error
        tensors = {name: torch.from_numpy(value) for name, value in zip(outputs, values, strict=True)}
        return SimpleNamespace(**{_FIELD_OF_VIEW: None} | tensors)

    return forward, not any(isinstance(side, int) for side in session.get_inputs()[0].shape[2:])
