#!/usr/bin/env bash
# SIGTERM to a process that runs an op with a RetryPolicy by the in-process executor does not end the run: the
# interrupt counts as a failure of the op, which is started again, and the run ends as SUCCESS.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27
export DAGSTER_DISABLE_TELEMETRY=1 HOME="$folder"
cd "$folder"
cat > sigterm.py <<'PYTHON'
import os
import signal
import threading
import time

import dagster as dg


def run(policy: dg.RetryPolicy | None) -> tuple[int, str]:
    """Attempts at the op and the status of the run, when SIGTERM comes in the first attempt."""
    attempts = []

    @dg.op(retry_policy=policy)
    def works() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
            time.sleep(5)

    @dg.job(executor_def=dg.in_process_executor)
    def job() -> None:
        works()

    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        return len(attempts), instance.get_run_by_id(result.run_id).status.value


with_policy, without = run(dg.RetryPolicy(max_retries=1)), run(None)
print(f"dagster {dg.__version__}")
print("expected: SIGTERM ends the run, with or without a RetryPolicy")
print(f"without a RetryPolicy: attempts and status {without}")
print(f"with a RetryPolicy:    attempts and status {with_policy}")
if (without, with_policy) != ((1, "FAILURE"), (2, "SUCCESS")):
    raise SystemExit("the behavior has changed")
PYTHON
venv/bin/python sigterm.py 2> errors.log || { tail -3 errors.log; exit 1; }
