import shutil
from pathlib import Path

import dagster as dg
import pytest

from fourdnex.identity import data_md5
from orchestration.data_state import DataStateError, checked_data_md5, run_dvc


def test_the_version_of_an_untouched_data_set(dvc_project):
    project, md5 = dvc_project
    assert checked_data_md5(project.root) == md5 == data_md5(project.root)


def test_a_folder_without_git_has_a_version(dvc_project):
    """For example a downloaded archive."""
    project, md5 = dvc_project
    root = Path(project.root)
    (root / ".dvc" / "config").write_text("")  # as in the repository, where DVC requires Git by default
    assert not (root / ".git").exists()
    assert checked_data_md5(root) == md5
    shutil.rmtree(root / "data")
    run_dvc(root, "checkout")
    assert checked_data_md5(root) == md5


def test_missing_data_is_fetched_by_dvc_pull(dvc_project):
    project, _ = dvc_project
    shutil.rmtree(project.data_dir)
    with pytest.raises(DataStateError, match="data/ is missing: fetch it with `dvc pull`"):
        checked_data_md5(project.root)


def test_the_error_for_changed_data_names_both_remedies(dvc_project):
    project, _ = dvc_project
    (project.data_dir / "LICENSES.md").write_text("changed")
    with pytest.raises(DataStateError, match=r"dvc pull --force.*dvc add data"):
        checked_data_md5(project.root)


def test_data_that_is_not_in_the_cache_is_hashed(dvc_project):
    """For example after copying the folder instead of `dvc pull`: `dvc status` then reports a change in any case."""
    project, md5 = dvc_project
    shutil.rmtree(Path(project.root) / ".dvc" / "cache")
    assert checked_data_md5(project.root) == md5
    (project.data_dir / "LICENSES.md").write_text("changed")
    with pytest.raises(DataStateError, match="is not the version"):
        checked_data_md5(project.root)


def test_observing_records_the_version_and_the_shards(dvc_project, load_defs, instance):
    project, md5 = dvc_project
    job = load_defs(project).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("source_clips")])
    (event,) = result.get_asset_observation_events()
    observation = event.asset_observation_data.asset_observation
    assert observation.data_version == md5
    assert observation.metadata["shards"].value == 2
    assert instance.get_dynamic_partitions("shards") == ["worlds-0000", "worlds-0001"]
