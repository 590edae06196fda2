"""Checks that `data/` is the version that `data.dvc` names."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fourdnex.identity import data_md5, folder_md5, git_commit


class DataStateError(ValueError):
    """`data/` is missing or is not the version that `data.dvc` names; the message says how to repair it."""


def checked_data_md5(root: str | os.PathLike[str]) -> str:
    """The md5 in `data.dvc`, after `dvc status` or a hash of every file confirms that `data/` is that version.

    Raises:
        DataStateError: `data/` is missing or was changed.
        FileNotFoundError, ValueError: `data.dvc` is missing or unreadable.
    """
    md5 = data_md5(root)
    if not (Path(root) / "data").is_dir():
        raise DataStateError("data/ is missing: fetch it with `dvc pull`")
    status = run_dvc(root, "status", "--json", "data.dvc")
    try:
        changes = json.loads(status)
    except json.JSONDecodeError as error:
        raise DataStateError(f"dvc status: expected JSON, got {status[:500]!r}") from error
    # For data that is not in its cache, DVC reports a change even if the data is the right version.
    if changes and folder_md5(Path(root) / "data") != md5:
        raise DataStateError(
            f"data/ is not the version that data.dvc names ({md5}): restore that version with `dvc pull --force`, "
            "or make this one the new version with `dvc add data`"
        )
    return md5


def run_dvc(root: str | os.PathLike[str], *arguments: str) -> str:
    """Standard output of `dvc ARGUMENTS`, run in `root`; waits while another dvc command holds the lock.

    If `root` is not a Git checkout, for example a downloaded archive, DVC is configured to work without Git.

    Raises:
        DataStateError: the command failed; the message holds its output.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as settings:
        if git_commit(root) is None:
            Path(settings, "config").write_text("[core]\n    no_scm = true\n")
            environment["DVC_SYSTEM_CONFIG_DIR"] = settings
        completed = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        raise DataStateError(f"dvc {' '.join(arguments)}: {(completed.stderr or completed.stdout).strip()[-1000:]}")
    return completed.stdout
