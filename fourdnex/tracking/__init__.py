"""MLflow experiments and the adapter registry: the only package that imports mlflow.

The store is `workspace/mlflow/mlflow.db` with artifacts next to it, or the server set in MLFLOW_TRACKING_URI.
"""

from fourdnex.tracking.client import TrackingError, store, tracking_uri, without_password
from fourdnex.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    FORMER_CHAMPION,
    MODEL,
    RegisteredAdapter,
    adapter_version,
    former_champions,
    load_served,
    promote,
    register_challenger,
    registered,
    resolve,
    resolve_version,
)
from fourdnex.tracking.runs import TrackedDataset, TrackingRun, add_image, find_run

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "FORMER_CHAMPION",
    "MODEL",
    "RegisteredAdapter",
    "TrackedDataset",
    "TrackingError",
    "TrackingRun",
    "adapter_version",
    "add_image",
    "find_run",
    "former_champions",
    "load_served",
    "promote",
    "register_challenger",
    "registered",
    "resolve",
    "resolve_version",
    "store",
    "tracking_uri",
    "without_password",
]
