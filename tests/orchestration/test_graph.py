from pathlib import Path

import dagster as dg

import orchestration.definitions

SNAPSHOT = Path(__file__).with_name("asset_graph.txt")


def describe(defs: dg.Definitions) -> str:
    graph = defs.resolve_asset_graph()
    lines = []
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        checks = sorted(
            f"{check.name}{' (blocking)' if graph.get(check).blocking else ''}"
            for check in graph.asset_check_keys
            if check.asset_key == key
        )
        lines += [
            f"{key.to_user_string()} [{node.group_name}] {', '.join(sorted(node.owners))}",
            f"  kinds: {', '.join(sorted(node.kinds))}",
            f"  from: {', '.join(sorted(parent.to_user_string() for parent in node.parent_keys)) or 'nothing'}",
            f"  partitions: {node.partitions_def.name if node.partitions_def else 'none'}",
            f"  checks: {', '.join(checks) or 'none'}",
        ]
    for sensor in sorted(defs.sensors or [], key=lambda sensor: sensor.name):
        lines.append(f"sensor {sensor.name}: {sensor.default_status.value}")
    for schedule in defs.schedules or []:
        lines.append(f"schedule {schedule.name}: {schedule.cron_schedule} {schedule.default_status.value}")
    for job in sorted(defs.jobs or [], key=lambda job: job.name):
        lines.append(f"job {job.name}")
    return "\n".join(lines) + "\n"


def test_the_graph_matches_the_snapshot(orchestration_defs):
    """After an intended change, write `describe(defs)` to asset_graph.txt and review the difference."""
    assert describe(orchestration_defs) == SNAPSHOT.read_text()


def test_every_asset_has_a_description_owners_kinds_and_a_group(orchestration_defs):
    graph = orchestration_defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description and len(node.description) > 30, key
        assert node.owners and node.kinds and node.group_name != "default", key


def test_assets_that_load_a_model_are_in_the_gpu_pool(orchestration_defs):
    pools = {}
    for asset in orchestration_defs.resolve_asset_graph().assets_defs:
        if asset.is_executable and asset.keys:
            pools[asset.node_def.name] = asset.node_def.pool
    users = {"annotated_clips", "training_latents", "adapter", "evaluation_report", "champion", "point_clouds"}
    assert {name for name, pool in pools.items() if pool == "gpu"} == users


def test_the_definitions_are_short_and_contain_no_tensor_code(orchestration_defs):
    assert len(Path(orchestration.definitions.__file__).read_text().splitlines()) < 60
    root = Path(orchestration.definitions.__file__).parent
    for path in root.rglob("*.py"):
        text = path.read_text()
        assert "import torch" not in text and "from torch" not in text, f"{path}: tensor code belongs to the library"
