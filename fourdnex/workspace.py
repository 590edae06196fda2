"""The workspace: one folder for everything that is derived, and the names of what lies where in it."""

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "FOURDNEX_WORKSPACE"


@dataclass(frozen=True)
class Workspace:
    """Paths below `root`. Nothing is made here: whoever writes a file makes its folder."""

    root: Path

    @classmethod
    def default(cls) -> "Workspace":
        """The folder that FOURDNEX_WORKSPACE names, else `workspace/` in the current folder."""
        return cls(Path(os.environ.get(VARIABLE) or "workspace").expanduser().absolute())

    @property
    def annotated(self) -> Path:
        """{shard}.safetensors and {shard}.parquet."""
        return self.root / "annotated"

    @property
    def scores(self) -> Path:
        """{shard}.parquet."""
        return self.root / "curation" / "scores"

    @property
    def curated(self) -> Path:
        """The table of kept and rejected clips."""
        return self.root / "curation" / "curated.parquet"

    @property
    def latents(self) -> Path:
        """{shard}.safetensors, {shard}.parquet and statistics.json."""
        return self.root / "latents"

    @property
    def latent_statistics(self) -> Path:
        return self.latents / "statistics.json"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    def adapter(self, config_hash: str) -> Path:
        return self.adapters / config_hash

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    def evaluation_of(self, adapter_digest: str) -> Path:
        return self.evaluation / adapter_digest

    @property
    def inbox(self) -> Path:
        """{collection}/ of images, put here by people."""
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
        return self.root / "mlflow" / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.root / "mlflow" / "artifacts"

    @property
    def dagster_home(self) -> Path:
        return self.root / "dagster"
