#!/usr/bin/env bash
# AutomationCondition.eager() forgets an update of a dependency that comes between a request and the next tick, once
# the requested asset has been made in that time too. An idle tick between the two keeps the update.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
export DAGSTER_DISABLE_TELEMETRY=1 HOME="$folder"
cd "$folder"
cat > eager.py <<'PYTHON'
import dagster as dg


@dg.asset
def upstream() -> None: ...


@dg.asset(deps=[upstream], automation_condition=dg.AutomationCondition.eager())
def downstream() -> None: ...


defs = dg.Definitions(assets=[upstream, downstream])


def play(idle_tick: bool) -> list[int]:
    """How many assets each tick requests; after the last update `downstream` is older than `upstream`."""
    with dg.DagsterInstance.ephemeral() as instance:
        cursor, requested = None, []

        def made(asset: str) -> None:
            instance.report_runless_asset_event(dg.AssetMaterialization(asset))

        def tick() -> None:
            nonlocal cursor
            result = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)
            cursor = result.cursor
            requested.append(result.total_requested)

        made("upstream")
        made("downstream")
        tick()
        made("upstream")
        tick()  # requests downstream
        made("downstream")  # the run that was requested
        if idle_tick:
            tick()
        made("upstream")  # newer than downstream
        for _ in range(5):
            tick()
        return requested


lost, kept = play(idle_tick=False), play(idle_tick=True)
print(f"dagster {dg.__version__}")
print("expected: a second request after the second update of upstream, with or without an idle tick before it")
print(f"requests a tick, without an idle tick: {lost}")
print(f"requests a tick, with an idle tick:    {kept}")
if (lost, kept) != ([0, 1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0, 0]):
    raise SystemExit("the behavior has changed")
print("seen: without the idle tick the update is lost for good, downstream stays older than upstream")
PYTHON
venv/bin/python -W ignore eager.py
