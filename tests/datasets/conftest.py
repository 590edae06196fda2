from pathlib import Path

import pytest

from tests.datasets.fourdnex10m_files import write_data_set


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    """4DNeX-10M with one clip per subset; not to be modified."""
    return write_data_set(tmp_path_factory.mktemp("4DNeX-10M") / "data")
