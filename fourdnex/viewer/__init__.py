"""WebGL viewer of scenes: an animated point cloud and its cameras, in any browser.

The page is served (`view`) or written as one file (`write_html`). It receives images and 16-bit depth and unprojects
them on the GPU, so a scene of 49 frames of 480 x 720 with all of its points takes a few tens of megabytes, and changing
colors or point size needs no server.
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
        scene_dir: folder written by `Scene4D.save`, or a folder that holds such folders or collections of them.
        host: address to listen on; "0.0.0.0" accepts connections from other machines.
        port: port to listen on; if it is in use, the next free port.

    Raises:
        FileNotFoundError: `scene_dir` holds no scene.
        ValueError: the scene is damaged.
        OSError: `host` is not an address of this machine, or no port is free.
    """
    folder = Path(scene_dir)
    server: PageServer
    if not (folder / "scene.json").is_file() and find_scenes(folder):
        server = GalleryServer(folder, host=host, port=port)
    else:
        scene = Scene4D.load(folder)
        server = SceneServer(scene, title=scene.name or folder.resolve().name, host=host, port=port)
    with server:
        print(f"http://{host}:{server.port}  (press Ctrl-C to stop)", flush=True)
        server.serve_forever()
