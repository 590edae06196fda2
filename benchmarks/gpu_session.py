"""A few minutes on one GPU, in order of worth: `python -m benchmarks.gpu_session --out results --work build/session`

1. the tests marked `gpu`, 2. `benchmarks.gpu`, 3. pretraining of a small base (`fourdnex.pretraining.small`).
Each step has minutes of its own, and what fails or runs past them does not end the session. `--out` holds
`summary.json`, `session.log` and the base as `base.tar.00`, `base.tar.01` and so on, of 15 MB each:
`cat base.tar.* | tar x`. Given again, the session leaves out steps that are done and goes on with training from its
checkpoint in `--work`. `--toy` trains for seconds, at sizes that teach nothing, also on a CPU; without a GPU the first
two steps are left out.
"""

import argparse
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

from benchmarks.reporting import machine, print_table
from fourdnex.io.files import read_json, write_json
from fourdnex.pretrained import pretrained
from fourdnex.pretraining.small import SmallPretraining, pretrain_small

PART = 15_000_000
TOY = SmallPretraining(
    num_frames=5,
    height=32,
    width=48,
    transformer={"num_attention_heads": 2, "num_layers": 1, "ffn_dim": 64, "added_kv_proj_dim": 128},
    batch=4,
    first_worlds=4,
    encoded_together=2,
    workers=1,
    measured_worlds=1,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of results, at most 64 MB in 8 files")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and of the base")
    parser.add_argument(
        "--minutes",
        type=float,
        nargs=3,
        metavar=("TESTS", "PASSES", "TRAINING"),
        default=(1.2, 1.0, 6.5),
        help="of each step (default 1.2 1.0 6.5)",
    )
    parser.add_argument("--base", type=Path, default=pretrained("fourdnex-tiny"), help="whose VAE and text encoder")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, for a machine without a GPU")
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
    print_table(f"GPU session, {_device()}", ("step", "status", "seconds", "figures"), rows, packages=("torch",))
    return 0


class Session:
    """Steps and what came of them, kept in `summary.json` after each."""

    def __init__(self, out: Path):
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.log = out, out / "session.log"
        summary = out / "summary.json"
        self.steps: dict[str, dict[str, Any]] = read_json(summary)["steps"] if summary.exists() else {}

    def step(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do a step unless it is done."""
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
        """Run a Python module; its last line. RuntimeError if it fails or takes longer than its minutes."""
        command = [sys.executable, "-m", module, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 * minutes, env=dict(os.environ))
        except subprocess.TimeoutExpired as error:
            self._note(f"{command}\n{_text(error.stdout)}\n{_text(error.stderr)}")
            raise RuntimeError(f"took longer than {minutes} minutes") from error
        self._note(f"{command}\n{done.stdout}\n{done.stderr}")
        lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}: {lines[-1] if lines else 'no output'}")
        return {"last_line": lines[-1] if lines else ""}

    def _note(self, text: str) -> None:
        with open(self.log, "a") as log:
            log.write(text[-200_000:] + "\n")


def pack(folder: Path, out: Path) -> list[Path]:
    """A folder as one tar file in parts of at most 15 MB, in place of earlier ones."""
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
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


if __name__ == "__main__":
    sys.exit(main())
