"""The viewer's page: HTML, style and script of this folder put together with a scene, for a server or as one file."""

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

_HERE = Path(__file__).parent
_LIMITS = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; connect-src "


def describe_scene(scene: Scene4D, *, title: str) -> dict[str, Any]:
    """What the page has to know before it gets frames and trails."""
    return describe(scene, title=title) | {"trails": describe_trails(scene)}


def build_page(description: dict[str, Any], *, embedded: bool) -> str:
    """The page without its frames.

    With `embedded` they are expected in the page, after its end (`write_html`), as are trails; else it asks its server
    for frames/0, frames/1, ..., and for trails. The page's own policy forbids requests to anywhere else.
    """
    known = json.dumps({**description, "embedded": embedded}, separators=(",", ":"), allow_nan=False)
    parts = {
        "POLICY": _LIMITS + ("'none'" if embedded else "'self'"),
        "TITLE": html.escape(str(description["title"])),
        "STYLE": (_HERE / "page.css").read_text(encoding="utf-8"),
        "SCENE": known.replace("<", "\\u003c"),  # nothing in a name can end the script element
        "SHADERS": (_HERE / "shaders.js").read_text(encoding="utf-8"),
        "SCRIPT": (_HERE / "page.js").read_text(encoding="utf-8"),
    }
    before, *rest = (_HERE / "page.html").read_text(encoding="utf-8").split("{{")
    return before + "".join(parts[name] + after for name, after in (piece.split("}}", 1) for piece in rest))


def write_html(scene: Scene4D, path: str | os.PathLike[str], *, title: str = "") -> int:
    """Write the viewer with all frames as one HTML file that needs no server and asks for nothing; returns its bytes.

    Written whole or not at all. Base64 makes it a third larger than what `fourdnex view` transfers.

    Raises:
        ValueError: `path` does not end in .html.
        OSError: it cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"html: expected a name that ends in .html, got {path}")
    known = describe_scene(scene, title=title or scene.name or "scene")
    with atomic_path(target) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(build_page(known, embedded=True))
            if known["trails"] is not None:
                file.write(_embedded("trail-data", trails_block(scene)))
            for t in range(scene.num_frames):
                file.write(_embedded(f"frame-{t}", frame_block(scene, t)))
    return target.stat().st_size


def _embedded(name: str, block: bytes) -> str:
    return f'<script type="application/octet-stream" id="{name}">{base64.b64encode(block).decode("ascii")}</script>\n'
