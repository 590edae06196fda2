"""The served model as MLflow stores it: this file (models from code), the adapter, and the base by name and digest."""

import base64
import binascii
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

import mlflow

_BASE64 = re.compile(r"(?:data:[\w/+.;=-]*;base64,)?([A-Za-z0-9+/\s]{64,}={0,2}\s*)")


class SceneModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Generates a scene folder for each image.

    Input: a table with the column `image`, paths on this machine or the content of image files (bytes, base64 or a
    `data:` URL), and optionally `prompt`, the captions (empty: a generic one). Output: `image` (the path, or
    `image-0000` for content) and `scene`, the folder of a `fourdnex.scene.Scene4D`. Parameters: `output_dir` (default:
    a new temporary folder), `seed`, and `size`, `resolution`, `camera` and `camera_pace` as in
    `fourdnex.generation.generate`.
    """

    def load_context(self, context: Any) -> None:
        """Read the configuration, and check that the base is the one that the adapter was trained on.

        Raises:
            ValueError: the base on this machine has another digest.
        """
        from fourdnex.model.presets import base_digest, get_preset

        self.base = context.model_config["base_model"]
        self.adapter = context.artifacts["adapter"]
        self.depth_network = context.model_config.get("depth_network")
        expected, actual = context.model_config.get("base_digest"), base_digest(get_preset(self.base).location)
        if expected is not None and actual != expected:
            raise ValueError(f"base {self.base}: expected digest {expected}, got {actual}")

    # Without type hints: MLflow would derive a signature from them, but the signature is set at registration.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Generate one scene folder for each image.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (HTTP 400): an image is missing or cannot be read; the message
                names its row, what was expected and what came. Nothing is written in this case.
        """
        import pandas as pd

        from fourdnex.annotation import DepthNetwork
        from fourdnex.generation import generate

        params = params or {}
        if "image" not in model_input:
            raise MlflowException.invalid_parameter_value(
                f"expected the column image, got {[str(name) for name in model_input]}"
            )
        first_frame_geometry = None if self.depth_network is None else DepthNetwork(self.depth_network)
        with tempfile.TemporaryDirectory() as uploads:
            images = [_image_path(value, row, Path(uploads)) for row, value in enumerate(model_input["image"])]
            generated = generate(
                images,
                model=self.base,
                adapter=self.adapter,
                prompts=_prompts(model_input),
                camera=params.get("camera") or None,
                camera_pace=params.get("camera_pace") or "slowly",
                first_frame_geometry=first_frame_geometry,
                size=params.get("size") or "image",
                resolution=params.get("resolution") or "auto",
                seed=int(params.get("seed", 0)),
            )
            try:
                scenes = list(generated)
            except (ValueError, OSError) as error:
                field = "" if str(error).startswith(("camera", "size", "resolution")) else "image: "
                raise MlflowException.invalid_parameter_value(f"{field}{error}".replace(f"{uploads}/", "")) from error
        names = [path.name if path.is_relative_to(uploads) else str(path) for path in images]
        folder = Path(params.get("output_dir") or tempfile.mkdtemp(prefix="fourdnex-scenes-"))
        targets = [folder / f"{row:04d}-{Path(name).stem}" for row, name in enumerate(names)]
        for scene, target in zip(scenes, targets, strict=True):
            scene.save(target)
        return pd.DataFrame({"image": names, "scene": [str(target) for target in targets]})


def _prompts(table: Any) -> list[str] | None:
    """The captions, with a generic one for images without; None if the table has no captions.

    Raises:
        MlflowException: INVALID_PARAMETER_VALUE: a caption is not text; the message names the row.
    """
    from fourdnex.generation.caption_sources import DEFAULT_PROMPT

    if "prompt" not in table:
        return None
    values = [None if value != value else value for value in table["prompt"]]  # NaN: no caption
    for row, value in enumerate(values):
        if not (value is None or isinstance(value, str)):
            raise MlflowException.invalid_parameter_value(f"prompt, row {row}: expected text, got {value!r:.80}")
    return [(value or "").strip() or DEFAULT_PROMPT for value in values]


def _image_path(value: Any, row: int, folder: Path) -> Path:
    """The path in `value`, or the path of a new file in `folder` with the content in `value`.

    Raises:
        MlflowException: INVALID_PARAMETER_VALUE: `value` is neither, or there is no such file; the message names the
            row.
    """
    field = f"image, row {row}"
    content = value if isinstance(value, bytes) else None
    if isinstance(value, str) and (match := _BASE64.fullmatch(value.strip())):
        try:
            content = base64.b64decode(match[1])
        except binascii.Error as error:
            raise MlflowException.invalid_parameter_value(f"{field}: expected complete base64, got {error}") from error
    if content is not None:
        path = folder / f"image-{row:04d}"
        path.write_bytes(content)
        return path
    if not isinstance(value, str) or not value:
        raise MlflowException.invalid_parameter_value(
            f"{field}: expected a path, or an image file as bytes, base64 or a data: URL, got {value!r:.80}"
        )
    if not os.path.isfile(value):  # unlike Path.is_file, raises no error for a name that is too long
        raise MlflowException.invalid_parameter_value(f"{field}: {value:.200}: there is no such file on the server")
    return Path(value)


mlflow.models.set_model(SceneModel())
