"""A code location for test_termination.py: one asset that runs a command with a child process, like `adapter`."""

import os
import sys

import dagster as dg

from fourdnex.io.files import atomic_path
from orchestration.processes import run_process

FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(f"{os.getpid()} {child.pid}", flush=True)
time.sleep(600)
"""


@dg.asset
def trained(context: dg.AssetExecutionContext) -> None:
    def note(line: str) -> None:
        context.log.info(line)
        with atomic_path(os.environ["FOURDNEX_TEST_PIDS"]) as noted:  # the test reads the file as soon as it exists
            noted.write_text(line)

    run_process([sys.executable, "-c", FAMILY], on_line=note)


defs = dg.Definitions(assets=[trained], jobs=[dg.define_asset_job("train", selection=[trained])])
