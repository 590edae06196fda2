"""Is `data/` what `data.dvc` says it is?"""

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
    """The md5 in `data.dvc`, once `dvc status` (or a look at every file) agrees that `data/` holds just that.

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
    # Of data that its cache lacks dvc says just that, whether it is the right version or not.
    if changes and folder_md5(Path(root) / "data") != md5:
        raise DataStateError(
            f"data/ is not the version that data.dvc names ({md5}): bring that one back with `dvc pull --force`, "
            "or make this one the new version with `dvc add data`"
        )
    return md5


def run_dvc(root: str | os.PathLike[str], *arguments: str) -> str:
    """What `dvc ARGUMENTS` prints, run in `root`; it waits while another dvc command holds the lock.

    Where `root` is no Git checkout, as after the download of an archive, DVC is told to do without.

    Raises:
        DataStateError: the command failed; the message holds what it said.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as settings:
        if git_commit(root) is None:
            Path(settings, "config").write_text("[core]\n    no_scm = true\n")
            environment["DVC_SYSTEM_CONFIG_DIR"] = settings
        answer = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise DataStateError(f"dvc {' '.join(arguments)}: {(answer.stderr or answer.stdout).strip()[-1000:]}")
    return answer.stdout
