"""A champion chosen by hand in MLflow is the champion here too."""

import dagster as dg

from fourdnex import tracking
from orchestration import display
from orchestration.project import Project


@dg.sensor(
    minimum_interval_seconds=120,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Follows the alias `champion` in MLflow: moved there by hand (a rollback), collections are generated "
    "again with that version. MLflow's webhooks reach public addresses only, so the alias is polled.",
)
def champion_alias(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult | dg.SkipReason:
    event = context.instance.get_latest_materialization_event(dg.AssetKey("champion"))
    if event is None or event.asset_materialization is None:
        return dg.SkipReason("nothing was promoted yet")
    known = str(event.asset_materialization.metadata["version"].value)
    # The version alone: the files are fetched and checked only when it is another one.
    if tracking.resolve_version(tracking.CHAMPION, workspace=project.workspace) == known:
        return dg.SkipReason(f"version {known} is the champion, as recorded")
    served = tracking.resolve(tracking.CHAMPION, workspace=project.workspace)
    if served is None:
        return dg.SkipReason("no version bears the alias `champion`")
    context.log.info(f"the alias `champion` was moved from version {known} to {served.version}")
    return dg.SensorResult(
        asset_events=[
            dg.AssetMaterialization(
                "champion",
                tags={"dagster/data_version": f"{served.version}-{served.adapter_digest}"},
                metadata={
                    "version": served.version,
                    "former_version": known,
                    "rules": "chosen by hand in MLflow",
                    **display.identity(served.identity),
                },
            )
        ]
    )
