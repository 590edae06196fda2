"""A store that was moved or copied with its workspace: MLflow keeps absolute locations, which point to where it was.

The locations in the present database are rewritten when it is first opened in another place. A workspace that was
copied then reads and writes its own files alone, also while the one it was copied from is still there.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def relocate(database: Path) -> int:
    """Let the locations in an MLflow database point below its own folder; how many were changed.

    Former folders are told by the experiments: each keeps its files in `artifacts/{name}` beside the database.
    Everything changes at once or not at all; a database without MLflow's tables is left alone.

    Raises:
        sqlite3.Error: the database cannot be read or written.
    """
    present = database.parent.as_uri()
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return 0
        experiments = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
        former = {folder for name, location in experiments if (folder := _folder(name, location))}
        changed = 0
        for folder in former - {present}:
            for table, column in _COLUMNS:
                if table in tables:
                    changed += connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (present, len(folder) + 1, len(folder) + 1, f"{folder}/"),
                    ).rowcount
    return changed


def _folder(name: str, location: str) -> str | None:
    """URI of the store's folder that an experiment's location tells; None where it tells none."""
    end = Path("/artifacts", name).as_uri().removeprefix("file://")
    if location.startswith("file://") and location.endswith(end):
        return location[: -len(end)]
    return None
