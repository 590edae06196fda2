"""Identity of a product: the code, data, base, adapter, configuration and runs that it was made with."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEYS = (
    "git_commit",
    "data_md5",
    "base_model",
    "base_digest",
    "adapter_digest",
    "config_hash",
    "dagster_run",
    "mlflow_run",
)
DAGSTER_RUN_VARIABLE = "FOURDNEX_DAGSTER_RUN"
"""Environment variable that holds the id of the Dagster run that started a process."""
ROOT_VARIABLE = "FOURDNEX_ROOT"
"""Environment variable that names the repository, where it is not the checkout that holds this package."""

_CHECKOUT = Path(__file__).parents[1]


def collect(*, root: str | os.PathLike[str] | None = None, **extra: Any) -> dict[str, Any]:
    """Identity to write into a product: every key of `KEYS` (None if unknown), and the keys of `extra`.

    `root` is the repository (default: `repository_root()`). `git_commit`, `data_md5` and `dagster_run` are
    looked up unless `extra` contains them, where None means unknown. The current directory of an installed
    package may belong to another repository, whose commit is not the code's.
    """
    folder = Path(root) if root is not None else repository_root()
    found: dict[str, Any] = dict.fromkeys(KEYS)
    if "git_commit" not in extra and (root is not None or is_checkout()):
        found["git_commit"] = git_commit(folder)
    if "data_md5" not in extra and (folder / "data.dvc").is_file():
        found["data_md5"] = data_md5(folder)
    found["dagster_run"] = os.environ.get(DAGSTER_RUN_VARIABLE) or None
    return found | extra


def of_scene(adapter: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    """Identity of a generated scene: the current code and Dagster run; all other keys from the adapter's identity.

    Without an adapter (`adapter` empty) there is no training data. `extra` is passed to `collect`.
    """
    current = collect(**extra)
    return current | {key: adapter.get(key) for key in current if key not in ("git_commit", "dagster_run")}


def repository_root() -> Path:
    """The folder that FOURDNEX_ROOT names, else the checkout that holds this package, else the current directory."""
    return Path(os.environ.get(ROOT_VARIABLE) or (_CHECKOUT if is_checkout() else "")).expanduser().resolve()


def is_checkout() -> bool:
    """Whether FOURDNEX_ROOT is set or this package is part of a checkout, not installed as a wheel."""
    return bool(os.environ.get(ROOT_VARIABLE)) or (_CHECKOUT / "pyproject.toml").is_file()


def git_commit(root: str | os.PathLike[str]) -> str | None:
    """Hash (40 hexadecimal digits) of the commit checked out at `root`; None outside a repository or without git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # git is not installed
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def data_md5(root: str | os.PathLike[str]) -> str:
    """Md5 of the data set from `data.dvc`: 32 hexadecimal digits and ".dir".

    Raises:
        FileNotFoundError: if there is no `data.dvc` at `root`.
        ValueError: if the file does not contain one output with an md5.
    """
    return _read_dvc_file(root)[1]


def data_md5_of(folder: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None) -> str | None:
    """Md5 from `data.dvc` if `folder` is the data set that it tracks; None for other folders.

    `root` is the repository (default: `repository_root()`).

    Raises:
        ValueError: if the file does not contain one output with an md5.
    """
    root = Path(root) if root is not None else repository_root()
    if not (root / "data.dvc").is_file():
        return None
    folder_of_data, digest = _read_dvc_file(root)
    return digest if folder_of_data.resolve() == Path(folder).resolve() else None


def _read_dvc_file(root: str | os.PathLike[str]) -> tuple[Path, str]:
    """Folder and md5 from `data.dvc`."""
    import yaml

    path = Path(root) / "data.dvc"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the file that tracks the data set (`dvc add data` writes it)")
    try:
        outputs = yaml.safe_load(path.read_text(encoding="utf-8"))["outs"]
        ((name, digest),) = ((output["path"], output["md5"]) for output in outputs)
        folder = Path(root, name)
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected one output with a path and an md5, as `dvc add data` writes it ({error})"
        ) from error
    if not isinstance(digest, str) or not digest:
        raise ValueError(f"{path}: md5: expected a digest, got {digest!r}")
    return folder, digest


def folder_md5(folder: Path) -> str:
    """Md5 of a folder as computed by DVC: md5 of the JSON list of file md5s and relative paths, and ".dir"."""
    entries = []
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).parts):
        if path.is_file():
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "md5").hexdigest()
            entries.append({"md5": digest, "relpath": path.relative_to(folder).as_posix()})
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"
