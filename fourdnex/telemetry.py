"""Telemetry opt-out: environment variables that disable the usage statistics of third-party libraries."""

import os

OPT_OUT_VARIABLES = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",  # libraries that DVC depends on
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime, which diffusers and PyTorch import
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variable -> the value that disables a library's usage statistics."""


def disable_telemetry() -> None:
    """Set the opt-out variables for this process and its children, before any of these libraries is imported.

    A variable that the user has set keeps its value.
    """
    for variable, value in OPT_OUT_VARIABLES.items():
        os.environ.setdefault(variable, value)
