"""The served model as MLflow keeps it: this file (models from code), the adapter, the base by name and digest."""

import tempfile
from pathlib import Path

import mlflow


class SceneModel(mlflow.pyfunc.PythonModel):
    """Picture files in, scene folders out.

    Input: a table with the column `image` (paths on this machine). Output: `image` and `scene`, the folder of a
    `fourdnex.scene.Scene4D`. Parameters: `output_dir` (default: a new temporary folder) and `seed`.
    """

    def load_context(self, context) -> None:
        """Remember the adapter and check that the base is the one it was trained on.

        Raises:
            ValueError: the base on this machine has another digest.
        """
        from fourdnex.model.presets import base_digest, get_preset

        self.base = context.model_config["base_model"]
        self.adapter = context.artifacts["adapter"]
        self.depth_network = context.model_config.get("depth_network")
        expected, found = context.model_config.get("base_digest"), base_digest(get_preset(self.base).location)
        if expected is not None and found != expected:
            raise ValueError(f"base {self.base}: expected digest {expected}, got {found}")

    # Without type hints: MLflow would take them for a signature, and the signature is stated at registration.
    def predict(self, context, model_input, params=None):
        """One scene folder for each picture.

        Raises:
            ValueError: a picture cannot be read; the message names it.
        """
        import pandas as pd

        from fourdnex.annotation import DepthNetwork
        from fourdnex.generation import generate

        params = params or {}
        folder = Path(params.get("output_dir") or tempfile.mkdtemp(prefix="fourdnex-scenes-"))
        images = list(model_input["image"])
        scenes = []
        starts = None if self.depth_network is None else DepthNetwork(self.depth_network)
        made = generate(images, model=self.base, adapter=self.adapter, starts=starts, seed=int(params.get("seed", 0)))
        for number, scene in enumerate(made):
            target = folder / f"{number:04d}-{Path(images[number]).stem}"
            scene.save(target)
            scenes.append(str(target))
        return pd.DataFrame({"image": images, "scene": scenes})


mlflow.models.set_model(SceneModel())
