"""Pages that a browser opens by itself and that tell this machine what they saw: videos, and GLB files in three.js."""

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
const seen = await new Promise((tell) => {
  video.onerror = () => tell(`not played: ${video.error.message || `error ${video.error.code}`}`);
  video.onloadeddata = () => tell(`plays, ${video.videoWidth} x ${video.videoHeight}`);
  setTimeout(() => tell("nothing within 20 s"), 20000);
  video.src = PATH;
});
await fetch("/seen", { method: "POST", body: seen });
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
  renderer.render(gltf.scene, camera);  // a scene of its own without lights
  const flat = (source) => {
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(source, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  };
  const found = flat(renderer.domElement), wanted = flat(image);
  let covered = 0, off = 0;
  for (let i = 0; i < found.length; i += 4) if (found[i + 3] > 250) {
    covered++;
    for (let c = 0; c < 3; c++) off += Math.abs(found[i + c] - wanted[i + c]) / 3;
  }
  const share = ((100 * covered) / (width * height)).toFixed(1);
  await fetch("/seen", { method: "POST", body: `three.js ${THREE.REVISION}: ${kinds.join("; ")}; ${share} %` +
    ` of the image at ${zoom} times its size is covered, its colors ${(off / covered).toFixed(1)} of 255 off` });
} catch (error) {
  await fetch("/seen", { method: "POST", body: `not opened: ${error}` });
}
</script>"""


def rows(root: Path) -> Iterator[dict[str, str]]:
    """What Chromium and Firefox see of the videos in `root`, and three.js in Chromium of its GLB files."""
    firefox = shutil.which("firefox") or shutil.which("firefox-esr")
    chromium = find_chromium()
    with _server(root) as (address, seen):
        for path in sorted([*root.rglob("*.mkv"), *root.rglob("*.mp4")]):
            page = root / "page.html"
            page.write_text(VIDEO.replace("PATH", json.dumps(f"/{path.relative_to(root).as_posix()}")))
            if chromium:
                with Chromium(chromium) as browser:
                    browser.open(f"{address}/page.html")
                    yield _row("Chromium", chromium, path, seen.get(timeout=60))
            if firefox:
                with _firefox(firefox, f"{address}/page.html"):
                    yield _row("Firefox", firefox, path, seen.get(timeout=90))
        if chromium and (root / "node_modules" / "three").is_dir():
            for path in sorted(root.rglob("frame_0000.glb")):
                page.write_text(THREE.replace("PATH", json.dumps(f"/{path.relative_to(root).as_posix()}")))
                with Chromium(chromium) as browser:
                    browser.open(f"{address}/page.html")
                    row = _row("three.js in Chromium", chromium, path, seen.get(timeout=60))
                    _save(path.with_suffix(".three.png"), browser)
                    yield row


def _save(path: Path, browser: Chromium) -> None:
    from PIL import Image

    Image.fromarray(browser.screenshot()).save(path)


def _row(client: str, program: str, path: Path, seen: str) -> dict[str, str]:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    version = next(word for word in told.split() if word[0].isdigit())
    return {"client": client, "version": version, "path": str(path), "seen": seen}


@contextmanager
def _server(root: Path) -> "Iterator[tuple[str, Queue[str]]]":
    """The folder on a port of this machine; what pages send to /seen comes to the queue."""
    seen: Queue[str] = Queue()

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()


@contextmanager
def _firefox(program: str, url: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, "--headless", "--no-remote", "--profile", profile, url]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.terminate()
