"""HTTP servers of the viewer: for one scene, or for all scenes of a folder with a gallery page."""

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
from fourdnex.viewer.hosts import VARIABLE, is_known_host
from fourdnex.viewer.page import build_page, describe_scene
from fourdnex.viewer.trails import trails_block

_MAX_PORTS_TRIED = 100
_CACHED_SCENES = 4
"""Scenes of a folder kept in memory, about 150 MB each at 49 frames of 480 x 720."""
_FRAME = re.compile(r"frames/(\d{1,6})")
_PREVIEW = "preview.png"
Response = tuple[int, str, bytes]  # status, content type (with status 301: location), body
_NOT_FOUND: Response = (404, "text/plain; charset=utf-8", b"not found")


class PageServer(ThreadingHTTPServer):
    """A threaded server of GET requests; a request with the Host of another site is refused, see `viewer.hosts`.

    Args:
        host: address to listen on.
        port: port to listen on; if it is in use, the next free port. 0 lets the system choose.

    Raises:
        OSError: no port from `port` on is free, or `host` is not an address of this machine.
    """

    daemon_threads = True
    allow_reuse_address = False  # otherwise a port that another viewer uses would count as free

    def __init__(self, *, host: str = "127.0.0.1", port: int = 8080) -> None:
        self.host = host
        if ":" in host:
            self.address_family = socket.AF_INET6
        for offset in range(_MAX_PORTS_TRIED):
            try:
                super().__init__((host, port + offset if port else 0), _Handler)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or offset == _MAX_PORTS_TRIED - 1:
                    raise

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.server_address[1])

    @abstractmethod
    def respond(self, path: str) -> Response:
        """The response to a request of `path`, percent-encoded and with its leading slash."""


class SceneServer(PageServer):
    """Serves one scene: the page at `/`, its frames at `/frames/0`, ..., and its motion trails at `/trails`."""

    def __init__(self, scene: Scene4D, *, title: str, host: str = "127.0.0.1", port: int = 8080) -> None:
        self._handler = _SceneHandler(scene, title)
        super().__init__(host=host, port=port)

    def respond(self, path: str) -> Response:
        """The page, a frame or the trails; see `PageServer.respond`."""
        return self._handler.respond(path.removeprefix("/"))


class GalleryServer(PageServer):
    """Serves the scenes of a folder and its subfolders: a page of previews at `/`, each scene at its relative path.

    The folder is searched at every request, so scenes that are added later appear. A damaged scene answers with status
    500 and the reason.
    """

    def __init__(self, root: str | os.PathLike[str], *, host: str = "127.0.0.1", port: int = 8080) -> None:
        self._root = Path(root)
        self._load_lock = threading.Lock()
        super().__init__(host=host, port=port)

    def respond(self, path: str) -> Response:
        """The gallery page, or a file of a scene; see `PageServer.respond`."""
        decoded = unquote(path)
        scenes = find_scenes(self._root)  # a path is only compared with these, never opened itself
        if decoded == "/":
            return 200, "text/html; charset=utf-8", _gallery_page(self._root.resolve().name, scenes).encode("utf-8")
        for name, folder in scenes.items():
            if decoded == f"/{name}":
                return 301, f"/{quote(name)}/", b""
            if decoded.startswith(f"/{name}/"):
                return self._respond_scene(folder, decoded.removeprefix(f"/{name}/"))
        return _NOT_FOUND

    def _respond_scene(self, folder: Path, rest: str) -> Response:
        """The response to a path `rest` inside the scene in `folder`."""
        if rest == _PREVIEW:
            file = folder / _PREVIEW
            return (200, "image/png", file.read_bytes()) if file.is_file() else _NOT_FOUND
        try:
            with self._load_lock:  # concurrent requests for one scene must load it once
                handler = _load(folder, (folder / "scene.json").stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            return 500, "text/plain; charset=utf-8", str(error).encode("utf-8")
        return handler.respond(rest)


def find_scenes(root: Path) -> dict[str, Path]:
    """Scenes in a folder and one level below (collections) by their relative path; hidden folders are excluded."""
    found = [*root.glob("[!.]*/scene.json"), *root.glob("[!.]*/[!.]*/scene.json")]
    return {file.parent.relative_to(root).as_posix(): file.parent for file in sorted(found)}


class _SceneHandler:
    """Responses for one scene."""

    def __init__(self, scene: Scene4D, title: str) -> None:
        self._scene = scene
        description = describe_scene(scene, title=title)
        self._has_trails = description["trails"] is not None
        self._page = build_page(description, embedded=False).encode("utf-8")
        self._encode_lock = threading.Lock()  # frames are encoded in the order of the requests

    def respond(self, rest: str) -> Response:
        """The response to a path inside the scene."""
        if rest == "":
            return 200, "text/html; charset=utf-8", self._page
        if rest == "trails" and self._has_trails:
            return 200, "application/octet-stream", trails_block(self._scene)
        match = _FRAME.fullmatch(rest)
        if match and int(match[1]) < self._scene.num_frames:
            with self._encode_lock:
                return 200, "application/octet-stream", frame_block(self._scene, int(match[1]))
        return _NOT_FOUND


@functools.lru_cache(maxsize=_CACHED_SCENES)
def _load(folder: Path, modified_ns: int) -> _SceneHandler:
    """Load a scene; its modification time is part of the cache key, so that a replaced scene is loaded again."""
    scene = Scene4D.load(folder)
    return _SceneHandler(scene, scene.name or folder.name)


def _gallery_page(title: str, scenes: dict[str, Path]) -> str:
    """HTML page with a preview and a link per scene."""
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
    """Writes the server's responses."""

    server: PageServer
    protocol_version = "HTTP/1.1"  # persistent connections: one round trip per frame through a tunnel

    def do_GET(self) -> None:
        """Answer one GET request."""
        host = self.headers.get("Host")
        if is_known_host(host, self.server.host):
            status, kind, body = self.server.respond(self.path.partition("?")[0])
        else:
            message = f"{host!r} is not a name of this viewer; set {VARIABLE} to the names to answer to"
            status, kind, body = 421, "text/plain; charset=utf-8", message.encode("utf-8")
        self.send_response(status)
        self.send_header("Location" if status == 301 else "Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the browser closed the connection

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: one line per frame would scroll the address out of view."""
