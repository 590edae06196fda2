"""The resource that all assets share: paths and settings of the project."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from fourdnex import identity
from fourdnex.workspace import Workspace

if TYPE_CHECKING:
    from fourdnex.curation import Rules, SetRules

DEPTH_NETWORK_VARIABLE = "FOURDNEX_DEPTH_NETWORK"


class Project(dg.ConfigurableResource):
    """Paths and settings that all assets share; `defs/resources.py` reads them from environment variables."""

    root: str
    """The repository, with `data.dvc`, `data/` and `mlflow/promotion.yaml`."""
    workspace_dir: str
    """Folder of all derived files; see `fourdnex.workspace`."""
    model: str = "tiny"
    """Preset or folder of the base."""
    training_options: dict[str, Any] = Field(default_factory=dict)
    """Fields of `fourdnex.training.lora_settings.LoraTraining` for every training run."""
    depth_network: str | None = None
    """Network that estimates first-frame point maps for adapters that need them, see
    `fourdnex.annotation.DepthNetwork`; None uses the network that comes with the base."""
    curation_rules_file: str | None = None
    """TOML file of curation rules, see `fourdnex curate --rules`; None uses the defaults."""
    min_acceptance: float = 0.05
    """Min share of accepted clips; below, no clip is encoded."""
    max_acceptance: float = 1.0
    """Max share of accepted clips; above, no clip is encoded."""
    held_out_clips: str | None = None
    """Clips that must not be trained on, see `fourdnex train --held-out-clips`; held-out worlds never are."""
    evaluation_worlds: int = 64
    """Number of held-out worlds for evaluation."""
    viewer_url: str = "http://127.0.0.1:8080"
    """URL of the scene viewer of `make ui`."""

    @property
    def data_dir(self) -> Path:
        """The versioned data set."""
        return Path(self.root) / "data"

    @property
    def workspace(self) -> Workspace:
        """The folders of derived files."""
        return Workspace(Path(self.workspace_dir).expanduser().absolute())

    def curation_rules(self) -> "tuple[Rules, SetRules]":
        """The curation rules.

        Raises:
            FileNotFoundError, ValueError: the file of rules is missing or invalid.
        """
        from fourdnex.curation import Rules, SetRules, read_rules

        return (Rules(), SetRules()) if self.curation_rules_file is None else read_rules(self.curation_rules_file)

    def adapter_dir(self, metadata: Mapping[str, Any]) -> Path:
        """The adapter folder of a materialization, in this workspace, which may have been moved or copied since."""
        return self.workspace.adapter(Path(metadata["folder"]).name)

    def report_file(self, metadata: Mapping[str, Any]) -> Path:
        """The evaluation report of a materialization, in this workspace."""
        return self.workspace.evaluation_of(Path(metadata["report"]).parent.name) / "report.json"

    @property
    def promotion_policy(self) -> Path:
        """The file with the rules for promotion."""
        return Path(self.root) / "mlflow" / "promotion.yaml"

    def depth_network_for(self, adapter: Path) -> str | None:
        """The network that estimates first-frame point maps for an adapter; None if the adapter does not use them.

        Raises:
            ValueError: the adapter needs first-frame point maps and there is no depth network.
        """
        from fourdnex.model.adapter_files import read_adapter_info
        from fourdnex.model.base import Base

        recipe = read_adapter_info(adapter)
        if recipe.xyz_init == "plane":
            return None
        network = Base.resolve(self.model).depth_network_for(recipe, self.depth_network)
        if network is None:
            raise ValueError(
                f"{adapter}: this adapter needs first-frame point maps: set {DEPTH_NETWORK_VARIABLE} to a depth network"
            )
        return network

    def identity(self, run_id: str, **values: Any) -> dict[str, Any]:
        """Identity of the products of a Dagster run, with further values."""
        return identity.collect(root=self.root, dagster_run=run_id, **{"base_model": self.model, **values})
