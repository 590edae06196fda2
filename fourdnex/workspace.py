"""The workspace: the folder of all derived files, and the paths in it."""

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "FOURDNEX_WORKSPACE"
"""Environment variable that names the workspace."""


@dataclass(frozen=True)
class Workspace:
    """Paths below `root`. Creates no folders: the code that writes a file creates its folder."""

    root: Path

    @classmethod
    def default(cls) -> "Workspace":
        """The folder set in FOURDNEX_WORKSPACE, else `workspace/` in the current directory."""
        return cls(Path(os.environ.get(VARIABLE) or "workspace").expanduser().absolute())

    @property
    def videos(self) -> Path:
        """{batch}/ of videos to be added to the data set, added by users."""
        return self.root / "videos"

    @property
    def annotated(self) -> Path:
        """Annotated clips: {shard}.safetensors and {shard}.parquet."""
        return self.root / "annotated"

    @property
    def scores(self) -> Path:
        """Curation scores: {shard}.parquet."""
        return self.root / "curation" / "scores"

    @property
    def curated(self) -> Path:
        """Table of accepted and rejected clips."""
        return self.root / "curation" / "curated.parquet"

    @property
    def latents(self) -> Path:
        """Training latents: {shard}.safetensors, {shard}.parquet and statistics.json."""
        return self.root / "latents"

    @property
    def latent_statistics(self) -> Path:
        """Statistics of the XYZ latents."""
        return self.latents / "statistics.json"

    @property
    def adapters(self) -> Path:
        """{config hash}/, one adapter each."""
        return self.root / "adapters"

    def adapter(self, config_hash: str) -> Path:
        """Folder of the adapter trained with a configuration."""
        return self.adapters / config_hash

    @property
    def evaluation(self) -> Path:
        """{adapter digest}/, one evaluation each."""
        return self.root / "evaluation"

    def evaluation_of(self, adapter_digest: str) -> Path:
        """Folder of an adapter's evaluation."""
        return self.evaluation / adapter_digest

    @property
    def inbox(self) -> Path:
        """{collection}/ of images, added by users."""
        return self.root / "inbox"

    @property
    def scenes(self) -> Path:
        """{collection}/{image stem}/, one scene each."""
        return self.root / "scenes"

    @property
    def novel_views(self) -> Path:
        """{collection}/{image stem}/, the videos of one scene each."""
        return self.root / "novel_views"

    @property
    def mlflow_database(self) -> Path:
        """SQLite database of MLflow."""
        return self.root / "mlflow" / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifacts of MLflow's runs and models."""
        return self.root / "mlflow" / "artifacts"

    @property
    def dagster_home(self) -> Path:
        """Folder of Dagster's instance."""
        return self.root / "dagster"
