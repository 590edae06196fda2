"""Location of the MLflow store, and a client for it."""

import fcntl
import http.client
import logging
import os
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fourdnex.extras import require
from fourdnex.tracking.relocation import relocate
from fourdnex.workspace import Workspace

_VARIABLE = "MLFLOW_TRACKING_URI"
_TIMEOUT = 5.0  # seconds to wait for a server's first response
_LOG = logging.getLogger(__name__)

# MLflow reads this on import, which no module does before this one.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


class TrackingError(OSError):
    """The store cannot be used: disk full, no permission, or no response; the message names the store."""


def tracking_uri(workspace: Workspace | None = None) -> str:
    """MLFLOW_TRACKING_URI if set, else the SQLite database in the workspace.

    Creates the database's folder. Updates paths in the store if the workspace was moved or copied.

    Raises:
        TrackingError: if the database cannot be read or written.
    """
    uri = store(workspace)
    if os.environ.get(_VARIABLE):
        return uri
    store_folder(workspace).mkdir(parents=True, exist_ok=True)
    if has_store(workspace):
        try:
            with store_lock(workspace):
                changed = relocate(_database(workspace))
        except sqlite3.Error as error:
            raise TrackingError(f"MLflow, {uri}: {error}") from error
        if changed:
            _LOG.info("%s: the workspace was moved or copied: paths in its store were updated", uri)
    return uri


def store(workspace: Workspace | None = None) -> str:
    """Like `tracking_uri`, but creates nothing: the store may not exist yet."""
    return os.environ.get(_VARIABLE) or _sqlite_uri(_database(workspace))


def has_store(workspace: Workspace | None) -> bool:
    """Whether a store exists. Opening a store that does not exist would create it."""
    return bool(os.environ.get(_VARIABLE)) or _database(workspace).is_file()


def store_folder(workspace: Workspace | None) -> Path:
    """Folder in the workspace that holds the store and its artifacts."""
    return _database(workspace).parent


def _sqlite_uri(database: Path) -> str:
    """SQLAlchemy 2.1 URL of a database, with its two special characters quoted.

    With quoted characters the URL names the driver, or MLflow would also create a folder of the quoted name.
    """
    quoted = str(database).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{database}" if quoted == str(database) else f"sqlite+pysqlite:///{quoted}"


def _database(workspace: Workspace | None) -> Path:
    """Path of the workspace's SQLite database."""
    return (workspace or Workspace.default()).mlflow_database.resolve()


def open_client(workspace: Workspace | None) -> Any:
    """MLflow client for the store, which is created if needed.

    Raises:
        TrackingError: if the store cannot be used, or the server does not respond.
        MissingExtraError: mlflow is not installed.
    """
    require("mlflow")
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from mlflow import MlflowClient

    uri = tracking_uri(workspace)
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    try:
        with store_lock(workspace):
            client = MlflowClient(uri)  # opens the store or creates its tables
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise TrackingError(f"MLflow, {without_password(uri)}: {str(error).splitlines()[0]}") from error
    return client


def without_password(uri: str) -> str:
    """A store's address without user name and password."""
    host = urlsplit(uri).netloc
    return uri.replace(host, host.rpartition("@")[2], 1) if "@" in host else uri


@cache  # after the first response, MLflow's own retries apply; failures are not cached
def _check_server(uri: str) -> None:
    """Check that a server responds; MLflow's client would retry for minutes.

    Raises:
        TrackingError: if it does not respond.
    """
    unchecked = ssl.create_default_context()  # sends no secrets; MLflow verifies certificates as configured
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    address = without_password(uri)
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=_TIMEOUT, context=unchecked):
            pass
    except urllib.error.HTTPError:
        pass  # any HTTP status shows that the server is running
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise TrackingError(
            f"MLflow, {address}: no response ({reason}). Start the server, correct {_VARIABLE}, or unset it to use "
            "the store in the workspace"
        ) from error


@contextmanager
def store_lock(workspace: Workspace | None) -> Iterator[None]:
    """Context in which one process at a time uses the workspace's store.

    Without it, two processes that create the same tables or experiment would fail. No lock is taken for
    MLFLOW_TRACKING_URI.
    """
    if os.environ.get(_VARIABLE):
        yield
        return
    folder = os.open(store_folder(workspace), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)  # releases the lock


@contextmanager
def none_if_missing() -> Iterator[None]:
    """Context that suppresses errors about a missing run, model or alias; other errors are raised."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise


@contextmanager
def default_store(uri: str) -> Iterator[None]:
    """Context in which MLflow's module-level functions use this store.

    MLflow also writes the store to the environment, which is restored on exit: later it would look like a user's
    setting.
    """
    import mlflow

    previous = os.environ.get(_VARIABLE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        if previous is not None:
            os.environ[_VARIABLE] = previous
