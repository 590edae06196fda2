"""Viewer in a headless Chromium, against viser's static file of the same scene: `python -m benchmarks.viewer`

The scene is a rendered world with noise on its depth, so that it compresses as a generated scene does. Times run from
the request of the page (for `fourdnex view`, from the start of the command) to the first points drawn; the browser
renders in software. viser is measured only where it is installed.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.chromium import Chromium, find_chromium
from benchmarks.reporting import argument_parser, print_table
from fourdnex.datasets.worlds import render_world
from fourdnex.scene import Scene4D
from fourdnex.viewer import write_html

COLUMNS = (
    "viewer",
    "first points, s",
    "of which page load, s",
    "all frames, s",
    "MB transferred",
    "file size, MB",
    "writing, s",
)
_FIRST = "performance.getEntriesByName('first-points')[0]?.startTime"
_ALL = "performance.getEntriesByName('all-frames')[0]?.startTime"


def main() -> None:
    """Measure both forms of the viewer, and viser, and print one row each."""
    parser = argument_parser(__doc__)
    parser.add_argument("--frames", type=int, default=49, help="number of frames (default: 49)")
    parser.add_argument("--height", type=int, default=480, help="frame height (default: 480)")
    parser.add_argument("--width", type=int, default=720, help="frame width (default: 720)")
    parser.add_argument("--noise", type=float, default=0.01, help="relative noise of the depth (default: 0.01)")
    parser.add_argument("--seed", type=int, default=3, help="seed of the world (default: 3)")
    options = parser.parse_args()
    program = find_chromium()
    if program is None:
        raise SystemExit("Chromium not found: install it, or set CHROMIUM to its executable")
    clip = render_world(options.seed, num_frames=options.frames, height=options.height, width=options.width)
    assert clip.depth is not None and clip.intrinsics is not None and clip.camera_to_world is not None
    noise = 1 + options.noise * np.random.default_rng(0).standard_normal(clip.depth.shape, dtype=np.float32)
    scene = Scene4D(
        rgb=clip.rgb,
        depth=clip.depth * noise,
        intrinsics=clip.intrinsics,
        camera_to_world=clip.camera_to_world,
        confidence=np.broadcast_to(np.linspace(0, 1, options.width, dtype=np.float32), clip.depth.shape),
        fps=clip.fps,
        name=clip.name,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scene.save(folder / "scene")
        rows = [served(program, folder / "scene"), html_file(program, scene, folder / "scene.html")]
        if find_spec("viser"):
            rows.append(viser_file(replace(scene, confidence=None), folder / "viser.html"))
    size = f"{options.frames} frames of {options.height} x {options.width}, {options.noise:.1%} noise"
    notes = ["MB transferred by viser: the messages of its server for all frames, which its file contains too."]
    print_table(f"Viewer: {size}", COLUMNS, rows, notes=notes, packages=("numpy",))


def served(program: str, folder: Path) -> tuple[object, ...]:
    """The row of the command, with a browser that is already open."""
    with Chromium(program) as browser:
        started = time.perf_counter()
        command = [sys.executable, "-m", "fourdnex", "view", str(folder), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().split()[0]
                opened = time.perf_counter()
                browser.open(address)
                first = browser.wait_for(_FIRST, seconds=300) / 1000
                whole = browser.wait_for(_ALL, seconds=600) / 1000
            finally:
                process.terminate()
        if browser.errors:
            raise SystemExit(f"the page reports errors: {browser.errors}")
        return "fourdnex view", opened - started + first, first, whole, browser.bytes_received / 1e6, None, None


def html_file(program: str, scene: Scene4D, path: Path) -> tuple[object, ...]:
    """The row of the viewer as one HTML file."""
    started = time.perf_counter()
    size = write_html(scene, path)
    seconds = time.perf_counter() - started
    with Chromium(program) as browser:
        browser.open(path.as_uri())
        first = browser.wait_for(_FIRST, seconds=300) / 1000
        whole = browser.wait_for(_ALL, seconds=600) / 1000
        if browser.errors:
            raise SystemExit(f"the page reports errors: {browser.errors}")
    return "fourdnex view --html", first, first, whole, 0.0, size / 1e6, seconds


def viser_file(scene: Scene4D, path: Path) -> tuple[object, ...]:
    """The row of viser's static page: one cloud per frame in half precision, one visible at a time."""
    import viser

    started = time.perf_counter()
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    clouds = [
        server.scene.add_point_cloud(f"/{t}", *scene.points(t), point_size=0.01, precision="float16", visible=t == 0)
        for t in range(scene.num_frames)
    ]
    sent = len(server.get_scene_serializer().serialize())
    recording = server.get_scene_serializer()
    for before, after in pairwise(clouds):
        recording.insert_sleep(1 / scene.fps)
        before.visible, after.visible = False, True
    path.write_text(recording.as_html(dark_mode=True), encoding="utf-8")
    seconds = time.perf_counter() - started
    server.stop()
    return "viser, static file", None, None, None, sent / 1e6, path.stat().st_size / 1e6, seconds


if __name__ == "__main__":
    main()
