"""Planned memory against measured, on this machine's CPU: `python -m benchmarks.memory`

Planned is what `fourdnex plan` is made of: the real classes run without data, extrapolated over blocks and frames.
Measured are the same passes with real weights and tensors, each in a process of its own: the most bytes that PyTorch's
allocator had given out at once (from the profiler's memory events, workspaces inside kernels included), and how far the
process's resident memory rose.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.reporting import print_table
from fourdnex.model.base_components import COMPONENTS, component_configs
from fourdnex.model.presets import Preset, get_preset
from fourdnex.planning.estimate import denoising_bytes, training_bytes, vae_bytes
from fourdnex.planning.passes import Clip, Pass, Precision, denoising_pass, training_pass, vae_pass

MIB = 2**20
BAR = 0.15
RANK = 64


@dataclass(frozen=True)
class Case:
    """One pass at one size."""

    size: str
    what: str
    clip: Clip
    precision: Precision = "no"

    @property
    def label(self) -> str:
        shape = f"{self.clip.num_frames}x{self.clip.height}x{self.clip.width}"
        return f"{self.what}, {self.clip.batch_size} x {shape}, {'bfloat16' if self.precision == 'bf16' else 'float32'}"


TINY = Clip(num_frames=17, height=64, width=96, batch_size=2)
SMALL = Clip(num_frames=9, height=96, width=160)
CASES = (
    *(Case("tiny", what, TINY) for what in ("training", "training, checkpointed")),
    Case("tiny", "denoising", TINY),
    *(Case("tiny", what, replace(TINY, batch_size=1)) for what in ("encode", "decode")),
    *(Case("small", what, SMALL) for what in ("training", "training, checkpointed", "denoising")),
    *(Case("small", what, SMALL, "bf16") for what in ("training", "training, checkpointed", "denoising")),
    *(Case("small", what, replace(SMALL, num_frames=17)) for what in ("encode", "decode")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)  # what the processes are started with
    options = parser.parse_args()
    with _bases() as presets:
        if options.case is not None:
            case = CASES[options.case]
            print(json.dumps(measure(presets[case.size], case)))
            return
        rows = []
        for number, case in enumerate(CASES):
            command = [sys.executable, "-m", "benchmarks.memory", "--case", str(number)]
            # Every tensor of some size in pages of its own, which go back when it is freed: resident memory follows.
            environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**16)}
            answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if answer.returncode:
                raise RuntimeError(f"{case.label}: {answer.stderr[-2000:]}")
            measured = json.loads(answer.stdout.splitlines()[-1])
            planned = plan(presets[case.size], case)
            print(f"{case.size} {case.label}: {planned / MIB:.0f} MiB planned, {measured}", file=sys.stderr, flush=True)
            rows.append(
                (
                    case.size,
                    case.label,
                    planned / MIB,
                    measured["allocated"] / MIB,
                    planned / measured["allocated"],
                    measured["resident"] / MIB,
                )
            )
    worst = max(abs(row[4] - 1) for row in rows)
    print_table(
        f"Memory beyond weights, planned against measured (bar: within {BAR:.0%})",
        ("base", "pass", "planned MiB", "allocated MiB", "planned / allocated", "resident MiB"),
        rows,
        notes=[
            f"Furthest off: {worst:.1%}.",
            "small: Wan2.1-Fun-1.3B-InP's width and feed-forward with 3 layers, and Wan 2.1's whole VAE.",
        ],
        packages=("torch", "diffusers", "peft"),
    )


def plan(preset: Preset, case: Case) -> int:
    """Bytes that the planner expects on a CPU."""
    common: dict[str, Any] = {"rank": RANK, "precision": case.precision, "kernels": "cpu"}
    if case.what in ("encode", "decode"):
        return vae_bytes(preset, case.clip, case.what, precision=case.precision).peak
    if case.what == "denoising":
        return denoising_bytes(preset, case.clip, **common).peak
    return training_bytes(preset, case.clip, checkpointing="checkpointed" in case.what, **common).peak


def measure(preset: Preset, case: Case) -> dict[str, int]:
    """Bytes that the pass really took."""
    torch.manual_seed(0)
    run = real_pass(preset, case).run
    run()  # what libraries keep for good is no part of a pass
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts anew
    resident = _status("VmRSS")
    run()
    resident = _status("VmHWM") - resident
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    current = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return {"allocated": peak, "resident": resident}


def real_pass(preset: Preset, case: Case) -> Pass:
    """The pass itself, with random weights and tensors."""
    configs = component_configs(preset)
    if case.what in ("encode", "decode"):
        return vae_pass(configs, case.clip, case.what, precision=case.precision)
    if case.what == "denoising":
        return denoising_pass(configs, case.clip, rank=RANK, precision=case.precision)
    checkpointing = "checkpointed" in case.what
    return training_pass(configs, case.clip, rank=RANK, checkpointing=checkpointing, precision=case.precision)


def _status(field: str) -> int:
    """Bytes of a line of this process's status."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


@contextmanager
def _bases() -> Iterator[dict[str, Preset]]:
    """The tiny base, and one of the published width that a small machine holds."""
    small = get_preset("wan2.1-fun-1.3b-inp")
    configs = component_configs(small)
    configs = configs | {"transformer": configs["transformer"] | {"num_layers": 3}}
    with tempfile.TemporaryDirectory() as folder:
        for part in COMPONENTS:
            (Path(folder) / part).mkdir()
            (Path(folder) / part / "config.json").write_text(json.dumps(configs[part]))
        yield {"tiny": get_preset("tiny"), "small": replace(small, name="small", location=folder)}


if __name__ == "__main__":
    main()
