"""New versions of the data set: batches of videos become shards, and DVC and Git record the result."""

import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fourdnex.identity import data_md5, git_commit
from fourdnex.io.files import atomic_path
from orchestration.data_state import DataStateError, run_dvc

DVC_FILE = "data.dvc"


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The folders of videos: those to add, and the others with the reason why they wait."""

    ready: tuple[Path, ...]
    waiting: tuple[tuple[str, str], ...]
    """(name, reason)."""


def find_batches(folder: Path, data_dir: Path, *, settle_seconds: float = 60.0) -> Batches:
    """The folders in `folder` whose videos are not in the data set yet.

    A batch is in the data set if a shard of videos has its name. It waits while its files changed less than
    `settle_seconds` ago (they may still be copied), while it has none, and while other clips have its name.

    Raises:
        FileNotFoundError, ValueError: the data set is missing or invalid.
    """
    from fourdnex.datasets.manifest import read_manifest
    from fourdnex.datasets.videos import SUBSET, safe_name

    table = read_manifest(data_dir)
    names = table["shard"].str.rpartition("-")[0]
    present, videos = set(names), set(names[table["subset"] == SUBSET])
    ready: list[Path] = []
    waiting: list[tuple[str, str]] = []
    for batch in sorted(path for path in folder.glob("[!.]*") if path.is_dir()) if folder.is_dir() else []:
        if safe_name(batch.name) in videos:
            continue
        times = [path.lstat().st_ctime for path in batch.rglob("*") if not path.is_dir()]
        if safe_name(batch.name) in present:
            waiting.append((batch.name, "other shards of the data set have this name: rename the folder"))
        elif not times:
            waiting.append((batch.name, "no files in this folder"))
        elif time.time() - max(times) < settle_seconds:
            waiting.append((batch.name, f"changed less than {settle_seconds:g} seconds ago"))
        else:
            ready.append(batch)
    return Batches(ready=tuple(ready), waiting=tuple(waiting))


def add_batch(batch: Path, data_dir: Path, *, progress: Callable[[str], None] = lambda line: None) -> dict[str, object]:
    """Cut the videos of a batch into clips, and add them to the data set as shards named after the batch.

    After an error, the data set is as before.

    Returns:
        counts of videos, clips, failed files and skipped windows, and the names of the new shards.

    Raises:
        ValueError: no video yields a clip, or a clip has the name of another.
        OSError: the disk is full or not writable.
    """
    from fourdnex.datasets.merge import add_data
    from fourdnex.datasets.videos import build_from_videos

    with tempfile.TemporaryDirectory(prefix=".batch-", dir=data_dir.parent) as temporary:
        built = Path(temporary) / "data"
        videos = build_from_videos(batch, built, name=batch.name, progress=progress)
        added = add_data(data_dir, [built])
    return {
        "videos": videos.videos,
        "clips": added.clips,
        "failed": videos.failed,
        "skipped": dict(videos.skipped) | {"duplicates": len(added.duplicates)},
        "shards": added.shards,
    }


def commit_data(root: Path, message: str) -> tuple[str, str | None]:
    """Record the present contents of `data/` with `dvc add`, `dvc push` and `git commit`.

    Only `data.dvc` and a DVC remote inside the repository are committed; whatever else is staged stays staged. Outside
    a Git checkout, nothing is committed. After an error, `data.dvc` is as before.

    Returns:
        md5 of the data set, and the commit; None if nothing has changed or there is no Git checkout.

    Raises:
        DataStateError: DVC or Git failed; the message holds its output.
    """
    path = root / DVC_FILE
    before, former = path.read_bytes(), data_md5(root)
    run_dvc(root, "add", "data")
    if (md5 := data_md5(root)) == former:
        return md5, None
    try:
        run_dvc(root, "push")
        if git_commit(root) is None:
            return md5, None
        paths = [DVC_FILE, *_remotes_inside(root)]
        _git(root, "add", "--", *paths)
        _git(root, "commit", "--quiet", "--message", message, "--", *paths)
    except DataStateError:
        with atomic_path(path) as temporary:
            temporary.write_bytes(before)
        raise
    return md5, git_commit(root)


def _remotes_inside(root: Path) -> list[str]:
    """DVC remotes that are folders of the repository and not ignored by Git, relative to it."""
    root = root.resolve()
    settings = (line.partition("=") for line in run_dvc(root, "config", "--list").splitlines())
    urls = [url for key, _, url in settings if key.startswith("remote.") and key.endswith(".url")]
    folders = [(root / ".dvc" / url).resolve() for url in urls]
    return [folder.relative_to(root).as_posix() for folder in folders if folder.is_dir() and root in folder.parents]


def _git(root: Path, *arguments: str) -> None:
    """Run git.

    Raises:
        DataStateError: the command failed; the message holds its output.
    """
    run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise DataStateError(f"git {arguments[0]}: {(run.stderr or run.stdout).strip()[-1000:]}")
