"""Builds the HTML page of the viewer from the files in this folder, for a server or as one self-contained file."""

import base64
import html
import json
import os
from pathlib import Path
from typing import Any

from fourdnex.io.files import atomic_path
from fourdnex.scene import Scene4D
from fourdnex.viewer.frames import describe, frame_block
from fourdnex.viewer.trails import describe_trails, trails_block

SCRIPTS = ("scene", "math", "shaders", "webgl", "loading", "camera", "drawing", "controls", "pointer", "main")
"""Files in js/ that the page concatenates, in this order, into one script."""

_HERE = Path(__file__).parent
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; connect-src "


def describe_scene(scene: Scene4D, *, title: str) -> dict[str, Any]:
    """The JSON description that the page holds, before it loads frames and trails."""
    return describe(scene, title=title) | {"trails": describe_trails(scene)}


def build_page(description: dict[str, Any], *, embedded: bool) -> str:
    """The page without its frames.

    With `embedded`, frames and trails follow at the end of the page (`write_html`). Without it, the page requests
    frames/0, frames/1, ... and trails from its server. The page's Content-Security-Policy forbids all other requests.
    """
    scene_json = json.dumps({**description, "embedded": embedded}, separators=(",", ":"), allow_nan=False)
    parts = {
        "POLICY": _POLICY + ("'none'" if embedded else "'self'"),
        "TITLE": html.escape(str(description["title"])),
        "STYLE": (_HERE / "page.css").read_text(encoding="utf-8"),
        "SCENE": scene_json.replace("<", "\\u003c"),  # no value can close the script element
        "SCRIPTS": "\n".join((_HERE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
    }
    before, *rest = (_HERE / "page.html").read_text(encoding="utf-8").split("{{")
    return before + "".join(parts[name] + after for name, after in (piece.split("}}", 1) for piece in rest))


def write_html(scene: Scene4D, path: str | os.PathLike[str], *, title: str = "") -> int:
    """Write the viewer with all frames as one self-contained HTML file that makes no requests.

    The file is written atomically. Base64 makes it a third larger than what `fourdnex view` transfers.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: `path` does not end in .html or .htm.
        OSError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"html: expected a file name ending in .html, got {path}")
    description = describe_scene(scene, title=title or scene.name or "scene")
    with atomic_path(target) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(build_page(description, embedded=True))
            if description["trails"] is not None:
                file.write(_script_element("trail-data", trails_block(scene)))
            for t in range(scene.num_frames):
                file.write(_script_element(f"frame-{t}", frame_block(scene, t)))
    return target.stat().st_size


def _script_element(name: str, block: bytes) -> str:
    """A script element that holds a block as base64."""
    return f'<script type="application/octet-stream" id="{name}">{base64.b64encode(block).decode("ascii")}</script>\n'
