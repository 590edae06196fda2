"""Depth of single images, by a depth network in the Hugging Face layout, in PyTorch or ONNX Runtime."""

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

from fourdnex.annotation.base import AnnotationError
from fourdnex.annotation.relative_depth import depth_of_inverse
from fourdnex.clip import Clip
from fourdnex.extras import require
from fourdnex.geometry.cameras import intrinsics_from_field_of_view, default_field_of_view
from fourdnex.io.files import sha256_file
from fourdnex.pretrained import pretrained
from fourdnex.quiet import hide_progress_bars

if TYPE_CHECKING:
    import torch

METRIC = ("depth_pro", "fourdnex_lite_depth", "glpn", "zoedepth")
"""Kinds of network (`model_type`) that give metric depth; `depth_anything` says so itself in its configuration. The one
that `fourdnex` has itself is `lite_depth`."""
RELATIVE = ("dpt",)
"""Kinds that give relative inverse depth (MiDaS); so does a `depth_anything` that does not say that it is metric."""
NEED_TORCHVISION = ("depth_pro", "zoedepth")
"""Of them those whose images transformers prepares with torchvision."""
TINY = "fourdnex-tiny-depth"
_INPUT, _DEPTH, _FIELD_OF_VIEW = "pixel_values", "predicted_depth", "field_of_view"
Forward = Callable[["torch.Tensor"], Any]


class DepthNetwork:
    """Finds depth in one image, and its field of view where the network tells it (Depth Pro does).

    `network` is "tiny" (the one in this repository, for procedural worlds), a folder or hub id with `config.json`,
    `preprocessor_config.json` and safetensors weights, or an ONNX file `NAME.onnx` with these two configurations
    beside it or a folder above, as the hub keeps them (input `pixel_values`, output `predicted_depth`). Nothing in
    these files is run but the network. What networks of relative depth leave open is settled by the prior of
    `relative_depth`.

    Raises:
        FileNotFoundError: there is no such file, or its configuration is missing.
        ValueError: the network does not give depth, or its weights are damaged or not for this use.
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
        weights, folder = _placed(network)
        self._is_relative = _check_kind(folder)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._processor = AutoImageProcessor.from_pretrained(folder)
        self._forward, self._takes_all_sizes = (
            (_torch(folder, device), True) if weights is None else _onnx(weights, device)
        )

    def annotate(self, clip: Clip) -> Clip:
        """The clip, of one frame, with depth and a pinhole camera in its middle; the confidence is 1 everywhere.

        Raises:
            AnnotationError: it has several frames, or no depth is found.
        """
        if clip.num_frames != 1:
            raise AnnotationError(f"{clip.name}: expected one image, got {clip.num_frames} frames")
        depth, field_of_view = self.depth(clip.rgb[0])
        if not (known := np.isfinite(depth) & (depth > 0)).any():
            raise AnnotationError(f"{clip.name}: the network found no depth above 0")
        return replace(
            clip,
            annotator=self.name,
            depth=np.where(known, depth, np.float32(np.nan))[None],
            intrinsics=intrinsics_from_field_of_view(field_of_view, height=clip.height, width=clip.width),
            camera_to_world=np.eye(4, dtype=np.float32)[None],
            confidence=known[None].astype(np.float32),
        )

    def depth(self, rgb: np.ndarray) -> tuple[np.ndarray, float]:
        """Depth [H, W] float32 in meters (z in the camera's frame) of an image [H, W, 3] uint8, and its field of view.

        The field of view is in degrees from left to right; where the network does not tell it, `field_of_view`, or
        without that `default_field_of_view`.
        Meters of a network of relative depth are those of the prior.
        """
        import torch

        own_size = _input_size(self._processor, rgb.shape[:2]) if self._takes_all_sizes else {}
        with torch.inference_mode():
            found = self._forward(self._processor(images=rgb, return_tensors="pt", **own_size)[_INPUT])
        # As transformers' own pipeline: the sizes are the source's for ZoeDepth and the target's for all others.
        (result,) = self._processor.post_process_depth_estimation(found, [rgb.shape[:2]])
        told = result.get(_FIELD_OF_VIEW)
        depth = result[_DEPTH].float().cpu().numpy()
        if depth.shape != rgb.shape[:2]:
            raise AnnotationError(f"expected depth {rgb.shape[:2]}, got {depth.shape} from the network")
        if self._is_relative:
            depth = depth_of_inverse(depth)
        asked = default_field_of_view(*rgb.shape[:2]) if self.field_of_view is None else self.field_of_view
        return depth, asked if told is None else float(told)


def network_identity(network: str | os.PathLike[str]) -> str:
    """What tells a network from others: a hub id, or the digest of its weights and configurations.

    Raises:
        FileNotFoundError: there is no such file.
    """
    weights, folder = _placed(network)
    if not Path(folder).is_dir():
        return f"hub:{folder}"
    files = {*Path(folder).glob("*config.json"), *([weights] if weights else Path(folder).glob("*.safetensors"))}
    return hashlib.sha256("".join(sha256_file(file) for file in sorted(files)).encode()).hexdigest()[:16]


def _input_size(processor: Any, size: tuple[int, ...]) -> dict[str, Any]:
    """The size at which an image of height and width `size` goes into the network; empty where the processor knows.

    One with `keep_aspect_ratio` false would squeeze a portrait into a landscape. Instead it goes in as it is where its
    sides are multiples of `ensure_multiple_of` and its area is about that of the processor's size, else at that area.
    """
    step = getattr(processor, "ensure_multiple_of", 1)
    if getattr(processor, "keep_aspect_ratio", True) or not processor.do_resize or step == 1:
        return {}
    (height, width), area = size, processor.size["height"] * processor.size["width"]
    if height % step or width % step or not 3 / 4 <= height * width / area <= 4 / 3:
        sides = ((area * height / width) ** 0.5, (area * width / height) ** 0.5)
        height, width = (max(1, round(side / step)) * step for side in sides)
    return {"size": {"height": height, "width": width}}


def _placed(network: str | os.PathLike[str]) -> tuple[Path | None, str]:
    """The ONNX file, if it is one, and the folder or hub id of the configuration and all other weights."""
    if str(network) == "tiny":
        return None, str(pretrained(TINY))
    if not str(network).endswith(".onnx"):
        if not os.path.isdir(network) and not re.fullmatch(r"\w[\w.-]*/[\w.-]+", str(network)):  # owner/name on the hub
            raise FileNotFoundError(f"{network}: expected a folder with a depth network, or a hub id, got neither")
        return None, str(network)
    file = Path(network)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: expected an ONNX file, got none")
    for folder in (file.absolute().parent, file.absolute().parent.parent):
        if (folder / "config.json").is_file() and (folder / "preprocessor_config.json").is_file():
            return file, str(folder)
    raise FileNotFoundError(f"{file}: expected config.json and preprocessor_config.json beside it or a folder above")


def _check_kind(location: str) -> bool:
    """Whether the network gives relative inverse depth; raises ValueError if its numbers are not depth."""
    from transformers import AutoConfig

    from fourdnex.annotation import lite_depth  # noqa: F401  known to AutoConfig from here on

    try:
        config = AutoConfig.from_pretrained(location)
    except (OSError, ValueError) as error:
        raise ValueError(f"{location}: expected a depth network's config.json ({error})") from error
    kind = config.model_type
    if kind in NEED_TORCHVISION and find_spec("torchvision") is None:
        raise ValueError(f"{location}: a network of kind {kind} needs torchvision; pip install torchvision")
    if kind == "depth_anything":
        return bool(config.depth_estimation_type != "metric")
    if kind not in METRIC + RELATIVE:
        expected = ", ".join(("depth_anything", *METRIC, *RELATIVE))
        raise ValueError(f"{location}: expected a depth network ({expected}), got {kind}")
    if kind == "dpt" and config.backbone_config is not None and config.backbone_config.model_type == "dinov2":
        raise ValueError(
            f"{location}: expected DPT as MiDaS has it, of relative depth, got one on DINOv2, whose depth may be metric"
        )
    return kind in RELATIVE


def _torch(location: str, device: str) -> Forward:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForDepthEstimation

    try:
        with hide_progress_bars():
            network = AutoModelForDepthEstimation.from_pretrained(location, use_safetensors=True, dtype=torch.float32)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{location}: expected whole safetensors weights, got {error}") from error
    network = network.eval().to(device)
    return lambda pixels: network(pixel_values=pixels.to(device))


def _onnx(file: Path, device: str) -> tuple[Forward, bool]:
    """The network, and whether it takes images of all sizes: exported ones may be bound to one."""
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
        raise ValueError(f"{file}: expected an ONNX network, got {error}") from error
    inputs, outputs = [value.name for value in session.get_inputs()], [value.name for value in session.get_outputs()]
    if inputs != [_INPUT] or _DEPTH not in outputs:
        raise ValueError(f"{file}: expected input {_INPUT} and output {_DEPTH}, got {inputs} and {outputs}")

    def forward(pixels: torch.Tensor) -> SimpleNamespace:
        try:
            values = session.run(outputs, {_INPUT: pixels.numpy()})
        except (Fail, InvalidArgument) as error:
            raise ValueError(f"{file}: does not take an image {tuple(pixels.shape)}: {error}") from error
        found = {name: torch.from_numpy(value) for name, value in zip(outputs, values, strict=True)}
        return SimpleNamespace(**{_FIELD_OF_VIEW: None} | found)

    return forward, not any(isinstance(side, int) for side in session.get_inputs()[0].shape[2:])
