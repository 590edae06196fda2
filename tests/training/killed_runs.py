"""Runs that kill themselves with SIGKILL at a given point, each in its own process, and the runs that resume them.

`python killed_runs.py CONFIG POINT ...` with the settings as JSON in CONFIG. A point is `module:function:n`: the n-th
call of that function kills the process instead; `half:n` first writes half of the tensors of the n-th checkpoint.
The results of a point are in the output's folder under the point's number; one line of JSON reports its outcome.
"""

import importlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from fourdnex.training import checkpoint
from fourdnex.training.lora_settings import LoraTraining
from fourdnex.training.trainer import train


def die(*_args, **_kwargs) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_half(path: Path, tensors) -> None:
    original(path, tensors)
    os.truncate(path, path.stat().st_size // 2)
    die()


original = checkpoint.write_tensors


def arm(point: str) -> None:
    """Replace the n-th call of the point's function by `die`."""
    if point.startswith("half:"):
        point, replacement = f"fourdnex.training.checkpoint:write_tensors:{point[5:]}", write_half
    else:
        replacement = die
    module_name, name, count = point.split(":")
    module, left = importlib.import_module(module_name), [int(count)]
    kept = getattr(module, name)

    def counted(*args, **kwargs):
        left[0] -= 1
        return (replacement if left[0] == 0 else kept)(*args, **kwargs)

    setattr(module, name, counted)


def run_in_process(config: LoraTraining, point: str | None) -> int:
    """Train in a child process; returns its exit status, or minus the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        if point:
            arm(point)
        try:
            train(config)
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    config = LoraTraining(**settings | {key: Path(settings[key]) for key in ("latents", "output")})
    for number, point in enumerate(sys.argv[2:]):
        own = replace(config, output=config.output / str(number) / "adapter")
        left = []
        killed = run_in_process(own, None if point == "none" else point)
        if own.output.parent.exists():
            left = sorted(path.name[:12] for path in own.output.parent.glob("adapter.checkpoint/step-*"))
        print(
            json.dumps({"point": point, "killed": killed, "left": left, "again": run_in_process(own, None)}), flush=True
        )
