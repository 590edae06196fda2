"""Planned against measured memory on the CPU: `python -m benchmarks.memory`

Planned memory is the estimate of `fourdnex plan`: the real classes run on fake tensors, extrapolated over blocks and
frames. Measured are the same passes with real weights and tensors, each in its own process: the peak of PyTorch's
allocator (from the profiler's memory events, which include workspaces of kernels), and the growth of the process's
resident memory.
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

from benchmarks.fixtures import with_fewer_layers
from benchmarks.reporting import argument_parser, print_table
from fourdnex.model.base_components import component_configs
from fourdnex.model.presets import Preset, get_preset
from fourdnex.planning.estimate import denoising_bytes, training_bytes, vae_bytes
from fourdnex.planning.passes import ClipShape, Pass, Precision, denoising_pass, training_pass, vae_pass

MIB = 2**20
TARGET = 0.15
"""Largest relative error of the plan."""
RANK = 64


@dataclass(frozen=True)
class Case:
    """One pass of one base at one size and precision."""

    size: str
    kind: str
    clip: ClipShape
    precision: Precision = "no"

    @property
    def label(self) -> str:
        """Name in the table."""
        shape = f"{self.clip.num_frames}x{self.clip.height}x{self.clip.width}"
        return f"{self.kind}, {self.clip.batch_size} x {shape}, {'bfloat16' if self.precision == 'bf16' else 'float32'}"


TINY = ClipShape(num_frames=17, height=64, width=96, batch_size=2)
SMALL = ClipShape(num_frames=9, height=96, width=160)
CASES = (
    *(Case("tiny", kind, TINY) for kind in ("training", "training, checkpointed")),
    Case("tiny", "denoising", TINY),
    *(Case("tiny", kind, replace(TINY, batch_size=1)) for kind in ("encode", "decode")),
    *(Case("small", kind, SMALL) for kind in ("training", "training, checkpointed", "denoising")),
    *(Case("small", kind, SMALL, "bf16") for kind in ("training", "training, checkpointed", "denoising")),
    *(Case("small", kind, replace(SMALL, num_frames=17)) for kind in ("encode", "decode")),
)


def main() -> None:
    """Measure every case in its own process and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)  # internal: measures one case in this process
    options = parser.parse_args()
    with _bases() as presets:
        if options.case is not None:
            case = CASES[options.case]
            print(json.dumps(measure(presets[case.size], case)))
            return
        rows = []
        for number, case in enumerate(CASES):
            command = [sys.executable, "-m", "benchmarks.memory", "--case", str(number)]
            # Large tensors get their own pages, which are released with them, so that resident memory follows.
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
        f"Memory beyond weights, planned against measured (target: within {TARGET:.0%})",
        ("base", "pass", "planned MiB", "allocated MiB", "planned / allocated", "resident MiB"),
        rows,
        notes=[
            f"Largest relative error: {worst:.1%}.",
            "small: the width of Wan2.1-Fun-1.3B-InP with 3 layers, and the full VAE of Wan 2.1.",
        ],
        packages=("torch", "diffusers", "peft"),
    )


def plan(preset: Preset, case: Case) -> int:
    """Planned bytes of a pass on a CPU."""
    common: dict[str, Any] = {"rank": RANK, "precision": case.precision, "kernels": "cpu"}
    if case.kind in ("encode", "decode"):
        return vae_bytes(preset, case.clip, case.kind, precision=case.precision).peak
    if case.kind == "denoising":
        return denoising_bytes(preset, case.clip, **common).peak
    return training_bytes(preset, case.clip, checkpointing="checkpointed" in case.kind, **common).peak


def measure(preset: Preset, case: Case) -> dict[str, int]:
    """Measured bytes of a pass."""
    torch.manual_seed(0)
    run = real_pass(preset, case).run
    run()  # warm-up: memory that libraries keep does not count
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of resident memory
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
    """The pass with random weights and tensors."""
    configs = component_configs(preset)
    if case.kind in ("encode", "decode"):
        return vae_pass(configs, case.clip, case.kind, precision=case.precision)
    if case.kind == "denoising":
        return denoising_pass(configs, case.clip, rank=RANK, precision=case.precision)
    checkpointing = "checkpointed" in case.kind
    return training_pass(configs, case.clip, rank=RANK, checkpointing=checkpointing, precision=case.precision)


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


@contextmanager
def _bases() -> Iterator[dict[str, Preset]]:
    """The tiny base, and a base of the 1.3 B model's width that fits a small machine."""
    with tempfile.TemporaryDirectory() as folder:
        small = with_fewer_layers(get_preset("wan2.1-fun-1.3b-inp"), 3, Path(folder), name="small")
        yield {"tiny": get_preset("tiny"), "small": small}


if __name__ == "__main__":
    main()
