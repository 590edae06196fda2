"""Assets that register evaluated adapters and promote them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

import orchestration
from fourdnex import identity, tracking
from fourdnex.evaluation.comparison import mean_log_error
from fourdnex.io.renamed import SCENE_KEYS, renamed_keys
from orchestration import display
from orchestration.history import RunContext, latest_checks, metadata_of_run
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
    """Register the adapter of this run, or the latest one, in MLflow."""
    trained = metadata_of_run(context, "adapter")
    adapter_identity = {key: trained.get(key) for key in identity.KEYS} | {"dagster_run": context.run.run_id}
    adapter = project.adapter_dir(trained)
    registered = tracking.register_challenger(
        adapter,
        report=project.report_file(metadata_of_run(context, "evaluation_report")),
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
    pool="gpu",
    output_required=False,
    description="The version that generates scenes; alias `champion`. A challenger replaces it only if every rule of "
    "`mlflow/promotion.yaml` passes.",
)
def champion(context: dg.AssetExecutionContext, project: Project) -> Iterator[dg.MaterializeResult]:
    """Promote the challenger, or record an observation with the reason why it is refused."""
    proposed = challenger_of_run(context, project)
    present = tracking.resolve(tracking.CHAMPION, workspace=project.workspace)
    best, compared_with = _best_report(project, present, proposed)
    policy = read_policy(project.promotion_policy)
    rules = judge(
        policy,
        challenger=proposed.report,
        best=best,
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
    why = "; ".join(f"{rule.name}: {rule.detail}" for rule in rules if not rule.name.startswith("check "))
    tags = {"promoted_by": f"Dagster run {context.run.run_id}", "promoted_why": why, "compared_with": compared_with}
    promoted = tracking.promote(proposed.version, tags=tags, workspace=project.workspace)
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


def challenger_of_run(context: RunContext, project: Project) -> tracking.RegisteredAdapter:
    """The version that this run has registered, else the latest challenger.

    Raises:
        dagster.Failure: there is no challenger.
    """
    version = metadata_of_run(context, "challenger").get("version")
    version = version or tracking.resolve_version(tracking.CHALLENGER, workspace=project.workspace)
    if version is None:
        raise dg.Failure("registry: expected a version with the alias 'challenger', found none")
    return tracking.adapter_version(str(version), workspace=project.workspace)


def _best_report(
    project: Project, present: tracking.RegisteredAdapter | None, proposed: tracking.RegisteredAdapter
) -> tuple[dict[str, Any] | None, str]:
    """The report of the best champion so far under the settings of the challenger's report, and a description of it.

    The settings are the version of the benchmark: reports of others are not compared. If the present champion has
    another report, it is evaluated again. None if there is no champion, or if it has another base.
    """
    if present is None:
        return None, "none: there is no champion yet"
    bases = [adapter.identity["base_digest"] for adapter in (present, proposed)]
    if bases[0] != bases[1]:
        return None, f"none: the champion, version {present.version}, has another base: {bases[0]}, not {bases[1]}"
    champions = {each.version: each.report for each in tracking.former_champions(workspace=project.workspace)}
    champions |= {present.version: present.report}
    comparable = {
        version: report
        for version, report in champions.items()
        if report.get("worlds") and have_comparable_reports(report, proposed.report)
    }
    if present.version not in comparable:
        comparable[present.version] = _evaluated_again(project, present, proposed)
    version, report = min(comparable.items(), key=lambda item: mean_log_error(item[1]["worlds"]))
    again = "" if version in champions and champions[version] is report else ", evaluated again with these settings"
    return report, f"version {version}, the best of {len(comparable)} champions on this benchmark{again}"


def _evaluated_again(
    project: Project, present: tracking.RegisteredAdapter, proposed: tracking.RegisteredAdapter
) -> dict[str, Any]:
    """The report of the champion with the settings of the challenger's report."""
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
    return evaluate(config, identity=present.identity)


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
