"""Sensor that follows a champion chosen by hand in MLflow."""

import dagster as dg

from fourdnex import tracking
from orchestration import display
from orchestration.project import Project


@dg.sensor(
    minimum_interval_seconds=120,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Follows the alias `champion` in MLflow: when it is moved by hand, for example to roll back, "
    "collections are generated again with that version. The alias is polled because MLflow's webhooks reach public "
    "addresses only.",
)
def champion_alias(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult | dg.SkipReason:
    """Record a materialization of `champion` if the alias was moved."""
    event = context.instance.get_latest_materialization_event(dg.AssetKey("champion"))
    if event is None or event.asset_materialization is None:
        return dg.SkipReason("no version has been promoted yet")
    recorded = str(event.asset_materialization.metadata["version"].value)
    # Compare the version first: files are fetched and verified only if it changed.
    if tracking.resolve_version(tracking.CHAMPION, workspace=project.workspace) == recorded:
        return dg.SkipReason(f"version {recorded} is still the champion")
    champion = tracking.resolve(tracking.CHAMPION, workspace=project.workspace)
    if champion is None:  # it has been deleted in MLflow
        former = tracking.resolve_version(tracking.FORMER_CHAMPION, workspace=project.workspace)
        if former is None:
            return dg.SkipReason("no version has the alias `champion` or `former-champion`")
        tags = {"promoted_by": "sensor champion_alias", "promoted_why": f"version {recorded} is no longer registered"}
        champion = tracking.promote(former, tags=tags, workspace=project.workspace)
    context.log.info(f"the alias `champion` was moved from version {recorded} to {champion.version}")
    return dg.SensorResult(
        asset_events=[
            dg.AssetMaterialization(
                "champion",
                tags={"dagster/data_version": f"{champion.version}-{champion.adapter_digest}"},
                metadata={
                    "version": champion.version,
                    "former_version": recorded,
                    "rules": "chosen by hand in MLflow, or the former champion",
                    **display.identity(champion.identity),
                },
            )
        ]
    )
