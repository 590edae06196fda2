"""Reading Parquet tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def read_parquet(path: str | os.PathLike[str], *, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a Parquet table.

    Args:
        path: the file.
        columns: that the table must have; it may have others.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not readable as Parquet, or lacks a column; the message names it.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # Arrow raises ArrowException and OSError, pandas others for damaged metadata
        raise ValueError(f"{path}: cannot be read as Parquet: {str(error) or type(error).__name__}") from error
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"{path}: missing columns: {', '.join(missing)}")
    return table
