"""Colors of rendered videos in Chromium and Firefox, read from a canvas."""

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from benchmarks.chromium import find_chromium
from fourdnex.rendering import write_animation

COLORS = [(30, 200, 30), (200, 30, 30), (30, 30, 200), (224, 172, 140), (128, 128, 128), (250, 250, 250)]
PAGE = """<!doctype html><video muted preload="auto"></video><script>
const video = document.querySelector("video");
const send = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
video.onerror = () => send({ error: video.error.message });
video.onseeked = () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const width = canvas.width / COUNT;
  const color = (i) => [...context.getImageData((i + 0.5) * width, canvas.height / 2, 1, 1).data].slice(0, 3);
  send({ colors: [...Array(COUNT).keys()].map(color) });
};
video.onloadeddata = () => { video.currentTime = 0.25; };
video.src = "video.mp4";
</script>"""
FLAGS = {
    "chromium": "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --user-data-dir={profile}",
    "firefox": "--headless --no-remote --new-instance --profile {profile}",
}


class Handler(SimpleHTTPRequestHandler):
    """Serves the folder; results that the page posts go to `results`."""

    results: queue.Queue

    def do_POST(self) -> None:
        self.results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def browser(name: str) -> str | None:
    if name == "chromium":
        return find_chromium()
    return os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")


@pytest.mark.slow
@pytest.mark.parametrize("height", [64, 720])
@pytest.mark.parametrize("name", ["chromium", "firefox"])
def test_colors_on_a_canvas(tmp_path, name, height):
    program = browser(name)
    if program is None:
        pytest.skip(f"requires {name}: install it or set {name.upper()} to its executable")
    stripes = np.repeat(np.array(COLORS, np.uint8), 32, axis=0)
    frame = np.broadcast_to(stripes, (height, *stripes.shape))
    write_animation(tmp_path / "video.mp4", [frame] * 12, fps=24)
    (tmp_path / "index.html").write_text(PAGE.replace("COUNT", str(len(COLORS))))
    (tmp_path / "profile").mkdir()
    Handler.results = queue.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = FLAGS[name].format(profile=tmp_path / "profile").split()
    command = [program, *flags, f"http://127.0.0.1:{server.server_port}/"]
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, **output) as running:
        try:
            result = Handler.results.get(timeout=90)
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            server.shutdown()
    assert "colors" in result, result
    # Compression changes the blue of uniform areas by up to 8; confusing BT.601 and BT.709 changes green by 26.
    assert np.abs(np.array(result["colors"]) - COLORS).max() <= 9, result["colors"]
