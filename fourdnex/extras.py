"""Optional dependencies: the extra that installs each, and the error that names it when one is missing."""

from importlib.util import find_spec

PACKAGES = {
    "bitsandbytes": ("bitsandbytes", "8bit"),
    "dagster": ("dagster", "graph"),
    "dvc": ("dvc", "graph"),
    "mlflow": ("mlflow", "graph"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "pandas": ("pandas", "train"),
    "pillow_heif": ("pillow-heif", "heif"),
    "pxr": ("usd-core", "export"),
    "pyarrow": ("pyarrow", "train"),
    "pycolmap": ("pycolmap", "annotate"),
    "pydantic": ("pydantic", "graph"),
    "rapidocr": ("rapidocr", "annotate"),
    "ray": ("ray", "ray"),
    "rerun": ("rerun-sdk", "export"),
    "scenedetect": ("scenedetect-headless", "annotate"),
    "sqlalchemy": ("sqlalchemy", "graph"),
}
"""Module -> (distribution on the package index, extra of `fourdnex` that installs it)."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message names the extra that installs it."""


def require(module: str, *, feature: str = "this command", instead: str = "") -> None:
    """Check that an optional dependency is installed, without importing it.

    Args:
        module: a key of `PACKAGES`.
        feature: subject of the error message.
        instead: what else the user can do, if anything.

    Raises:
        MissingExtraError: it is not installed.
    """
    if not is_installed(module):
        raise missing(module, feature=feature, instead=instead)


def is_installed(module: str) -> bool:
    """Whether the package can be imported; a folder of that name (such as `mlflow/` in a checkout) does not count."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def missing(module: str, *, feature: str = "this command", instead: str = "") -> MissingExtraError:
    """The error to raise where `module` is not installed."""
    distribution, extra = PACKAGES[module]
    message = f"{feature} needs {distribution}: pip install 'fourdnex[{extra}]'"
    return MissingExtraError(f"{message}, or {instead}" if instead else message, name=module)


def explain(error: ImportError) -> MissingExtraError | None:
    """The error that names the extra, where a failed import is of an optional dependency; else None."""
    if isinstance(error, MissingExtraError):
        return error
    module = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return missing(module) if module in PACKAGES else None
