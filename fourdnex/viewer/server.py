"""The viewer's server: the page, and a frame at a time when the browser asks for it."""

import errno
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fourdnex.scene import Scene4D
from fourdnex.viewer.frames import describe, frame_block
from fourdnex.viewer.page import build_page

_PORTS_TRIED = 100
_FRAME = re.compile(r"/frames/(\d{1,6})")


class SceneServer(ThreadingHTTPServer):
    """Serves one scene to any number of browsers.

    Raises:
        OSError: no port from `port` on is free, or `host` is no address of this machine.
    """

    daemon_threads = True
    allow_reuse_address = False  # a port that another viewer listens on is busy

    def __init__(self, scene: Scene4D, *, title: str, host: str = "127.0.0.1", port: int = 8080) -> None:
        self._scene = scene
        self._page = build_page(describe(scene, title=title), embedded=False).encode("utf-8")
        self._encoding = threading.Lock()  # one frame after another: the first one asked for is the first one there
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

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Content type and body of `path`; None: there is no such thing."""
        if path == "/":
            return "text/html; charset=utf-8", self._page
        match = _FRAME.fullmatch(path)
        if match and int(match[1]) < self._scene.num_frames:
            with self._encoding:
                return "application/octet-stream", frame_block(self._scene, int(match[1]))
        return None


class _Handler(BaseHTTPRequestHandler):
    server: SceneServer
    protocol_version = "HTTP/1.1"  # keeps the connection: one round trip a frame through a tunnel

    def do_GET(self) -> None:
        answer = self.server.answer(self.path.partition("?")[0])
        kind, body = answer or ("text/plain; charset=utf-8", b"not found")
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", kind)
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
