"""The one resource: where the project's files lie and at which size it runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from fourdnex import identity
from fourdnex.workspace import Workspace

DEPTH_NETWORK_VARIABLE = "FOURDNEX_DEPTH_NETWORK"


class Project(dg.ConfigurableResource):
    """Paths and sizes that all assets share. Environment variables set them in `defs/resources.py`."""

    root: str
    """The repository: `data.dvc`, `data/` and `mlflow/promotion.yaml` lie there."""
    workspace_dir: str
    """Everything derived; see `fourdnex.workspace`."""
    model: str = "tiny"
    """The base model: a preset's name."""
    training_options: dict[str, Any] = Field(default_factory=dict)
    """Fields of `fourdnex.training.lora_settings.LoraTraining` that differ from their defaults in every training run."""
    depth_network: str | None = None
    """Finds the first point maps for adapters trained with given ones (see `fourdnex.annotation.DepthNetwork`), in the
    place of the network that comes with the base."""
    evaluation_worlds: int = 64
    """Held-out worlds that an adapter is measured on."""
    viewer_url: str = "http://127.0.0.1:8080"
    """Where `make ui` shows the scenes of the workspace."""

    @property
    def data_dir(self) -> Path:
        return Path(self.root) / "data"

    @property
    def workspace(self) -> Workspace:
        return Workspace(Path(self.workspace_dir).expanduser().absolute())

    def adapter_dir(self, trained: Mapping[str, Any]) -> Path:
        """The adapter of a materialization, in this workspace: it may have been moved or copied since."""
        return self.workspace.adapter(Path(trained["folder"]).name)

    def report_file(self, measured: Mapping[str, Any]) -> Path:
        """The evaluation report of a materialization, in this workspace."""
        return self.workspace.evaluation_of(Path(measured["report"]).parent.name) / "report.json"

    @property
    def promotion_policy(self) -> Path:
        return Path(self.root) / "mlflow" / "promotion.yaml"

    def depth_network_for(self, adapter: Path) -> str | None:
        """What finds the first point maps for the adapter in this folder; None where it begins with the sloped plane.

        Raises:
            ValueError: it needs them, and there is no depth network.
        """
        from fourdnex.model.adapter_files import read_adapter_info
        from fourdnex.model.base import Base

        recipe = read_adapter_info(adapter)
        if recipe.xyz_init == "plane":
            return None
        network = Base.resolve(self.model).depth_network_for(recipe, self.depth_network)
        if network is None:
            raise ValueError(
                f"{adapter}: trained with given first point maps: set {DEPTH_NETWORK_VARIABLE} to a network that "
                "finds them"
            )
        return network

    def identity(self, run_id: str, **known: Any) -> dict[str, Any]:
        """Identity of what the Dagster run `run_id` makes."""
        return identity.collect(root=self.root, dagster_run=run_id, **{"base_model": self.model, **known})
