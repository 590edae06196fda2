"""Nothing here phones home: the switches of libraries that otherwise would, set before any of them is imported."""

import os

SWITCHES = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",  # DVC's parts
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime, which diffusers and PyTorch import
}
"""Environment variable -> the value that switches a library's usage statistics off."""


def switch_off() -> None:
    """Set the switches for this process and those that it starts; a value that a user has set stays."""
    for variable, value in SWITCHES.items():
        os.environ.setdefault(variable, value)
