"""Checks and pretraining within a few minutes on one GPU: `python -m benchmarks.gpu_session --out OUT --work WORK`

Steps, most valuable first:
1. the tests marked `gpu`
2. `benchmarks.gpu`
3. pretraining of a small base (`fourdnex.pretraining.small`)
Each step has a time limit; a step that fails or exceeds it does not end the session. OUT receives `summary.json`,
`session.log` and the base in parts of 15 MB (`cat base.tar.* | tar x`). Repeating the command skips finished steps and
resumes pretraining from its checkpoint in WORK. `--toy` pretrains for a few seconds at minimal sizes, also on a CPU;
without a GPU, steps 1 and 2 are skipped.
"""

import os
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.reporting import argument_parser, machine, print_table
from fourdnex.io.files import read_json, write_json
from fourdnex.pretrained import pretrained
from fourdnex.pretraining.small import SmallPretraining, pretrain_small

PART = 15_000_000
"""Largest size of a part of the packed base, in bytes."""
TOY = SmallPretraining(
    num_frames=5,
    height=32,
    width=48,
    transformer={"num_attention_heads": 2, "num_layers": 1, "ffn_dim": 64, "added_kv_proj_dim": 128},
    batch_size=4,
    first_worlds=4,
    encode_batch_size=2,
    workers=1,
    measured_worlds=1,
)


def main() -> int:
    """Run the session and print one row per step."""
    parser = argument_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="output folder, at most 64 MB in 8 files")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and the base")
    parser.add_argument(
        "--minutes",
        type=float,
        nargs=3,
        metavar=("TESTS", "PASSES", "TRAINING"),
        default=(1.2, 1.0, 6.5),
        help="time limit of each step in minutes (default: 1.2 1.0 6.5)",
    )
    parser.add_argument(
        "--base", type=Path, default=pretrained("fourdnex-tiny"), help="base whose VAE and text encoder are used"
    )
    parser.add_argument("--toy", action="store_true", help="minimal sizes, for a machine without a GPU")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    session = Session(options.out)
    tests, passes, training = options.minutes
    if torch.cuda.is_available():
        session.step("gpu tests", lambda: session.run(tests, "pytest", "-m", "gpu", "-q", "--tb=short", "tests/gpu"))
        session.step("benchmarks.gpu", lambda: session.run(passes, "benchmarks.gpu", "--repeats", "1"))
    config = replace(TOY if options.toy else SmallPretraining(), minutes=training)
    folder = options.work / "base"
    session.step("pretraining", lambda: pretrain_small(config, options.base, folder, options.work / "checkpoints"))
    if folder.exists():
        pack(folder, options.out)
    rows = [(name, done["status"], done["seconds"], done["figures"]) for name, done in session.steps.items()]
    print_table(f"GPU session, {_device()}", ("step", "status", "seconds", "results"), rows, packages=("torch",))
    return 0


class Session:
    """Steps and their results, written to `summary.json` after each step."""

    def __init__(self, out: Path):
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.log = out, out / "session.log"
        summary = out / "summary.json"
        self.steps: dict[str, dict[str, Any]] = read_json(summary)["steps"] if summary.exists() else {}

    def step(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Run a step unless an earlier session finished it."""
        if self.steps.get(name, {}).get("status") == "done":
            return
        print(f"{name} ...", flush=True)
        started, status, figures = time.monotonic(), "done", {}
        try:
            figures = work()
        except (RuntimeError, ValueError, OSError) as error:
            status = f"failed: {type(error).__name__}: {error}"
            self._note(traceback.format_exc())
        seconds = round(time.monotonic() - started, 1)
        self.steps[name] = {"status": status, "seconds": seconds, "figures": figures}
        write_json(self.out / "summary.json", {"machine": machine(), "device": _device(), "steps": self.steps})
        print(f"{name}: {status}, {seconds} s, {figures}", flush=True)

    def run(self, minutes: float, module: str, *arguments: str) -> dict[str, Any]:
        """Run a Python module and return its last line of output.

        Raises:
            RuntimeError: the module fails or exceeds `minutes`.
        """
        command = [sys.executable, "-m", module, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 * minutes, env=dict(os.environ))
        except subprocess.TimeoutExpired as error:
            self._note(f"{command}\n{_text(error.stdout)}\n{_text(error.stderr)}")
            raise RuntimeError(f"exceeded its limit of {minutes} minutes") from error
        self._note(f"{command}\n{done.stdout}\n{done.stderr}")
        lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}: {lines[-1] if lines else 'no output'}")
        return {"last_line": lines[-1] if lines else ""}

    def _note(self, text: str) -> None:
        """Append to the log."""
        with open(self.log, "a") as log:
            log.write(text[-200_000:] + "\n")


def pack(folder: Path, out: Path) -> list[Path]:
    """Pack a folder as a tar file in parts of at most `PART` bytes, replacing earlier parts."""
    for old in out.glob("base.tar*"):
        old.unlink()
    whole = out / "base.tar"
    with tarfile.open(whole, "w") as tar:
        tar.add(folder, arcname=folder.name)
    parts: list[Path] = []
    with open(whole, "rb") as file:
        while content := file.read(PART):
            parts.append(out / f"base.tar.{len(parts):02d}")
            parts[-1].write_bytes(content)
    whole.unlink()
    return parts


def _text(output: bytes | str | None) -> str:
    """Captured output as text."""
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _device() -> str:
    """Name of the GPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


if __name__ == "__main__":
    sys.exit(main())
