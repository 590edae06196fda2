"""Assets that register evaluated adapters and promote them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

import orchestration
from fourdnex import identity, tracking
from fourdnex.io.renamed import SCENE_KEYS, renamed_keys
from orchestration import display
from orchestration.history import latest_checks, latest_metadata
from orchestration.project import Project
from orchestration.promotion import judge, read_policy, refusal

GROUP = "registry"
OWNERS = ["team:operations"]
# As a path: only MLflow imports the module, when it saves or serves the model.
_MODEL_CODE = Path(orchestration.__file__).with_name("scene_model.py")


@dg.asset(
    deps=["adapter", "evaluation_report"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"mlflow"},
    code_version="1",
    description="The evaluated adapter, as a version of the registered model `fourdnex-adapter`; alias `challenger`.",
)
def challenger(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:
    """Register the latest adapter in MLflow."""
    trained = latest_metadata(context.instance, "adapter")
    adapter_identity = {key: trained.get(key) for key in identity.KEYS} | {"dagster_run": context.run.run_id}
    adapter = project.adapter_dir(trained)
    registered = tracking.register_challenger(
        adapter,
        report=project.report_file(latest_metadata(context.instance, "evaluation_report")),
        model_code=_MODEL_CODE,
        config={
            "base_model": project.model,
            "base_digest": trained.get("base_digest"),
            "depth_network": project.depth_network_for(adapter),
        },
        adapter_identity=adapter_identity,
        run_id=trained.get("mlflow_run"),
        workspace=project.workspace,
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{registered.version}-{registered.adapter_digest}"),
        metadata={
            "version": registered.version,
            "model": f"{tracking.MODEL} version {registered.version}",
            "adapter_norm": trained["adapter_norm"],
            "files": dg.MetadataValue.path(str(registered.adapter_dir)),
            **display.identity(registered.identity),
        },
    )


@dg.asset(
    deps=["challenger"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"mlflow"},
    code_version="1",
    output_required=False,
    description="The version that generates scenes; alias `champion`. A challenger replaces it only if every rule of "
    "`mlflow/promotion.yaml` passes.",
)
def champion(context: dg.AssetExecutionContext, project: Project) -> Iterator[dg.MaterializeResult]:
    """Promote the challenger, or record an observation with the reason why it is refused."""
    proposed = tracking.resolve(tracking.CHALLENGER, workspace=project.workspace)
    if proposed is None:
        raise dg.Failure("registry: expected a version with the alias 'challenger', found none")
    present = tracking.resolve(tracking.CHAMPION, workspace=project.workspace)
    champion_report, compared_with = _champion_report(project, present, proposed)
    policy = read_policy(project.promotion_policy)
    rules = judge(
        policy,
        challenger=proposed.report,
        champion=champion_report,
        checks=latest_checks(context.instance, policy.required_checks),
    )
    rule_table = display.table([{"rule": rule.name, "passed": rule.passed, "detail": rule.detail} for rule in rules])
    if reason := refusal(rules):
        context.log.warning(f"version {proposed.version} is not promoted: {reason}")
        context.log_event(
            dg.AssetObservation(
                "champion",
                metadata={
                    "refused_version": proposed.version,
                    "reason": reason,
                    "compared_with": compared_with,
                    "rules": rule_table,
                },
            )
        )
        return
    promoted = tracking.promote(
        proposed.version, tags={"promoted_by_dagster_run": context.run.run_id}, workspace=project.workspace
    )
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(f"{promoted.version}-{promoted.adapter_digest}"),
        metadata={
            "version": promoted.version,
            "former_version": present.version if present is not None else "none",
            "compared_with": compared_with,
            "rules": rule_table,
            **display.identity(promoted.identity),
        },
    )


def _champion_report(
    project: Project, present: tracking.RegisteredAdapter | None, proposed: tracking.RegisteredAdapter
) -> tuple[dict[str, Any] | None, str]:
    """The champion's evaluation report under the settings of the challenger's report, and a description of it.

    This is the report that the champion was registered with, or a new one if the settings differ. None if there is no
    champion, or if it has another base than the challenger.
    """
    if present is None:
        return None, "none: there is no champion yet"
    bases = [adapter.identity["base_digest"] for adapter in (present, proposed)]
    if bases[0] != bases[1]:
        return None, f"none: the champion, version {present.version}, has another base: {bases[0]}, not {bases[1]}"
    if have_comparable_reports(present.report, proposed.report):
        return present.report, f"version {present.version}, as registered"
    from fourdnex.evaluation.benchmark import Evaluation, evaluate

    config = Evaluation(
        adapter=present.adapter_dir,
        out=project.workspace.evaluation_of(str(present.adapter_digest)),
        model=project.model,
        annotated=project.workspace.annotated,
        curated=project.workspace.curated,
        num_worlds=proposed.report["num_worlds"],
        depth_network=project.depth_network_for(present.adapter_dir),
    )
    report = evaluate(config, identity=present.identity)
    return report, f"version {present.version}, evaluated again with the settings of the challenger"


def have_comparable_reports(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two evaluation reports can be compared: all settings are equal.

    The source of first-frame geometry counts only if both adapters use it.
    """
    settings = [
        {**renamed_keys(report["settings"], SCENE_KEYS, source="evaluation report"), "adapter_digest": None}
        for report in (one, other)
    ]
    if None in (found := [own.pop("geometry_network", None) for own in settings]):
        found = []
    return settings[0] == settings[1] and len(set(found)) < 2
