"""Videos and GLB files in browsers: pages that play or render a file and post the result to a local server."""

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

from benchmarks.chromium import Chromium, find_chromium

VIDEO = """<!DOCTYPE html><meta charset="utf-8"><script type="module">
const video = document.createElement("video");
video.muted = true;
const result = await new Promise((resolve) => {
  video.onerror = () => resolve(`not played: ${video.error.message || `error ${video.error.code}`}`);
  video.onloadeddata = () => resolve(`plays, ${video.videoWidth} x ${video.videoHeight}`);
  setTimeout(() => resolve("no answer within 20 s"), 20000);
  video.src = PATH;
});
await fetch("/result", { method: "POST", body: result });
</script>"""

THREE = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<script type="importmap">{"imports": {"three": "/node_modules/three/build/three.module.js",
"three/addons/": "/node_modules/three/examples/jsm/"}}</script>
<script type="module">
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
const zoom = 4;
try {
  const gltf = await new GLTFLoader().loadAsync(PATH), camera = gltf.cameras[0];
  const image = await createImageBitmap(await (await fetch("/image.png")).blob());
  const [width, height] = [image.width * zoom, image.height * zoom];
  const renderer = new THREE.WebGLRenderer({ alpha: true, antialias: false, preserveDrawingBuffer: true });
  renderer.setSize(width, height);
  document.body.append(renderer.domElement);
  const kinds = [];
  gltf.scene.traverse((o) => { if (o.isMesh || o.isPoints) kinds.push(`${o.type}, ${o.material.type}`); });
  renderer.render(gltf.scene, camera);  // the scene of the file, without lights
  const pixels = (source) => {
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(source, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  };
  const rendered = pixels(renderer.domElement), expected = pixels(image);
  let covered = 0, off = 0;
  for (let i = 0; i < rendered.length; i += 4) if (rendered[i + 3] > 250) {
    covered++;
    for (let c = 0; c < 3; c++) off += Math.abs(rendered[i + c] - expected[i + c]) / 3;
  }
  const share = ((100 * covered) / (width * height)).toFixed(1);
  await fetch("/result", { method: "POST", body: `three.js ${THREE.REVISION}: ${kinds.join("; ")}; ${share} %` +
    ` of the image at ${zoom} times its size is covered, colors ${(off / covered).toFixed(1)} of 255 off` });
} catch (error) {
  await fetch("/result", { method: "POST", body: `not opened: ${error}` });
}
</script>"""


def rows(root: Path) -> Iterator[dict[str, str]]:
    """Results of Chromium and Firefox on the videos in `root`, and of three.js in Chromium on its GLB files."""
    firefox = shutil.which("firefox") or shutil.which("firefox-esr")
    chromium = find_chromium()
    with _server(root) as (address, results):
        for path in sorted([*root.rglob("*.mkv"), *root.rglob("*.mp4")]):
            page = root / "page.html"
            page.write_text(VIDEO.replace("PATH", json.dumps(f"/{path.relative_to(root).as_posix()}")))
            if chromium:
                with Chromium(chromium) as browser:
                    browser.open(f"{address}/page.html")
                    yield _row("Chromium", chromium, path, results.get(timeout=60))
            if firefox:
                with _firefox(firefox, f"{address}/page.html"):
                    yield _row("Firefox", firefox, path, results.get(timeout=90))
        if chromium and (root / "node_modules" / "three").is_dir():
            for path in sorted(root.rglob("frame_0000.glb")):
                page.write_text(THREE.replace("PATH", json.dumps(f"/{path.relative_to(root).as_posix()}")))
                with Chromium(chromium) as browser:
                    browser.open(f"{address}/page.html")
                    row = _row("three.js in Chromium", chromium, path, results.get(timeout=60))
                    _save(path.with_suffix(".three.png"), browser)
                    yield row


def _save(path: Path, browser: Chromium) -> None:
    """Save a screenshot of the page."""
    from PIL import Image

    Image.fromarray(browser.screenshot()).save(path)


def _row(client: str, program: str, path: Path, result: str) -> dict[str, str]:
    """One row of the table."""
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    version = next(word for word in output.split() if word[0].isdigit())
    return {"client": client, "version": version, "path": str(path), "result": result}


@contextmanager
def _server(root: Path) -> "Iterator[tuple[str, Queue[str]]]":
    """Serve the folder on a local port; results that pages post are put into the queue."""
    results: Queue[str] = Queue()

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            results.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", results
        server.shutdown()


@contextmanager
def _firefox(program: str, url: str) -> Iterator[None]:
    """Open a URL in a headless Firefox with a temporary profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, "--headless", "--no-remote", "--profile", profile, url]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.terminate()
