"""The viewer's servers: one scene, or every scene below a folder with a page that leads to them."""

import errno
import functools
import html
import os
import re
import socket
import threading
from abc import abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

from fourdnex.scene import Scene4D
from fourdnex.viewer.frames import frame_block
from fourdnex.viewer.page import build_page, describe_scene
from fourdnex.viewer.trails import trails_block

_PORTS_TRIED = 100
_LOADED = 4
"""Scenes of a folder that are held in memory, about 150 MB each at 49 frames of 480 x 720."""
_FRAME = re.compile(r"frames/(\d{1,6})")
_PREVIEW = "preview.png"
Answer = tuple[int, str, bytes]  # status, content type (or where to go, with status 301) and body
_NOT_FOUND: Answer = (404, "text/plain; charset=utf-8", b"not found")


class PageServer(ThreadingHTTPServer):
    """Answers GET, for any number of browsers.

    Raises:
        OSError: no port from `port` on is free, or `host` is no address of this machine.
    """

    daemon_threads = True
    allow_reuse_address = False  # a port that another viewer listens on is busy

    def __init__(self, *, host: str = "127.0.0.1", port: int = 8080) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        for offset in range(_PORTS_TRIED):
            try:
                super().__init__((host, port + offset if port else 0), _Handler)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or offset == _PORTS_TRIED - 1:
                    raise

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @abstractmethod
    def answer(self, path: str) -> Answer:
        """What is at `path`, which begins with a slash and is as the browser sent it."""


class SceneServer(PageServer):
    """Serves one scene: the page at `/`, a frame at a time and trails when the browser asks for them."""

    def __init__(self, scene: Scene4D, *, title: str, host: str = "127.0.0.1", port: int = 8080) -> None:
        self._shown = _Shown(scene, title)
        super().__init__(host=host, port=port)

    def answer(self, path: str) -> Answer:
        return self._shown.answer(path.removeprefix("/"))


class GalleryServer(PageServer):
    """Serves the scenes in a folder and in its folders: a page of previews at `/`, each scene at its relative path.

    Scenes that come later are there when they are asked for. A damaged one says what is wrong with it.
    """

    def __init__(self, root: str | os.PathLike[str], *, host: str = "127.0.0.1", port: int = 8080) -> None:
        self._root = Path(root)
        self._loading = threading.Lock()
        super().__init__(host=host, port=port)

    def answer(self, path: str) -> Answer:
        wanted = unquote(path)
        scenes = find_scenes(self._root)  # only what was found here is ever opened, whatever a path says
        if wanted == "/":
            return 200, "text/html; charset=utf-8", _gallery_page(self._root.resolve().name, scenes).encode("utf-8")
        for name, folder in scenes.items():
            if wanted == f"/{name}":
                return 301, f"/{quote(name)}/", b""
            if wanted.startswith(f"/{name}/"):
                return self._of_scene(folder, wanted.removeprefix(f"/{name}/"))
        return _NOT_FOUND

    def _of_scene(self, folder: Path, rest: str) -> Answer:
        if rest == _PREVIEW:
            file = folder / _PREVIEW
            return (200, "image/png", file.read_bytes()) if file.is_file() else _NOT_FOUND
        try:
            with self._loading:  # several frames of one scene may be asked for at once
                shown = _load(folder, (folder / "scene.json").stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            return 500, "text/plain; charset=utf-8", str(error).encode("utf-8")
        return shown.answer(rest)


def find_scenes(root: Path) -> dict[str, Path]:
    """Scenes in a folder and one level below (a collection), by their relative names; hidden folders are left out."""
    found = [*root.glob("[!.]*/scene.json"), *root.glob("[!.]*/[!.]*/scene.json")]
    return {file.parent.relative_to(root).as_posix(): file.parent for file in sorted(found)}


class _Shown:
    """A scene as the browser gets it."""

    def __init__(self, scene: Scene4D, title: str) -> None:
        self._scene = scene
        known = describe_scene(scene, title=title)
        self._has_trails = known["trails"] is not None
        self._page = build_page(known, embedded=False).encode("utf-8")
        self._encoding = threading.Lock()  # one frame after another: the first one asked for is the first one there

    def answer(self, rest: str) -> Answer:
        if rest == "":
            return 200, "text/html; charset=utf-8", self._page
        if rest == "trails" and self._has_trails:
            return 200, "application/octet-stream", trails_block(self._scene)
        match = _FRAME.fullmatch(rest)
        if match and int(match[1]) < self._scene.num_frames:
            with self._encoding:
                return 200, "application/octet-stream", frame_block(self._scene, int(match[1]))
        return _NOT_FOUND


@functools.lru_cache(maxsize=_LOADED)
def _load(folder: Path, changed: int) -> _Shown:
    """`changed` is the time of the scene's last change: a scene that was made again is loaded again."""
    scene = Scene4D.load(folder)
    return _Shown(scene, scene.name or folder.name)


def _gallery_page(title: str, scenes: dict[str, Path]) -> str:
    tiles = []
    for name, folder in scenes.items():
        address = html.escape(quote(name), quote=True)
        image = f'<img src="{address}/{_PREVIEW}" alt="" loading="lazy">' if (folder / _PREVIEW).is_file() else ""
        tiles.append(f'<a href="{address}/">{image}<span>{html.escape(name)}</span></a>')
    page = (Path(__file__).parent / "gallery.html").read_text(encoding="utf-8")
    parts = {"TITLE": html.escape(title), "COUNT": str(len(scenes)), "TILES": "\n".join(tiles)}
    before, *rest = page.split("{{")
    return before + "".join(parts[key] + after for key, after in (piece.split("}}", 1) for piece in rest))


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"  # keeps the connection: one round trip a frame through a tunnel

    def do_GET(self) -> None:
        status, kind, body = self.server.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Location" if status == 301 else "Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the browser was closed meanwhile

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: one line a frame would bury the address."""
