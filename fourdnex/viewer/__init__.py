"""A scene in the browser: colored points that move in time, the cameras, and a hand on both.

One page, drawn by the browser's own WebGL 2, served (`view`) or sent as one file (`write_html`). It gets images and
16-bit depth and unprojects them on the graphics card, so a scene of 49 frames of 480 x 720 is a few tens of megabytes
with every point in it, and another color or size needs no server.
"""

import os
from pathlib import Path

from fourdnex.scene import Scene4D
from fourdnex.viewer.page import write_html
from fourdnex.viewer.server import GalleryServer, PageServer, SceneServer, find_scenes

__all__ = ["GalleryServer", "PageServer", "SceneServer", "find_scenes", "view", "write_html"]


def view(scene_dir: str | os.PathLike[str], *, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve a scene, or all scenes of a folder, to browsers until Ctrl-C.

    Args:
        scene_dir: folder written by `Scene4D.save`, or one that holds such folders or collections of them.
        host: address to listen on; "0.0.0.0" lets other machines in.
        port: the next free one is taken when it is busy.

    Raises:
        FileNotFoundError: there is no scene.
        ValueError: the scene is damaged.
        OSError: the address cannot be listened on.
    """
    folder = Path(scene_dir)
    server: PageServer
    if not (folder / "scene.json").is_file() and find_scenes(folder):
        server = GalleryServer(folder, host=host, port=port)
    else:
        scene = Scene4D.load(folder)
        server = SceneServer(scene, title=scene.name or folder.resolve().name, host=host, port=port)
    with server:
        print(f"http://{host}:{server.port}  (Ctrl-C ends)", flush=True)
        server.serve_forever()
