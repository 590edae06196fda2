"""The gallery server: all scenes of a folder at one address."""

import threading
from http.client import HTTPConnection
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from fourdnex.viewer import GalleryServer, find_scenes
from fourdnex.viewer.frames import frame_block


@pytest.fixture
def root(scene, tmp_path):
    """A collection with special characters in a name, a damaged and a hidden scene, a single scene, and other files."""
    scene.save(tmp_path / "collection" / "Küche & Bad")
    Image.fromarray(scene.rgb[0]).save(tmp_path / "collection" / "Küche & Bad" / "preview.png")
    scene.save(tmp_path / "collection" / "damaged")
    (tmp_path / "collection" / "damaged" / "depth.mkv").write_bytes(b"")
    scene.save(tmp_path / "collection" / ".unfinished")
    scene.save(tmp_path / "single")
    (tmp_path / "notes").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path


@pytest.fixture
def get(root):
    with GalleryServer(root, port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)

        def request(path: str) -> tuple[int, str, bytes]:
            connection.request("GET", quote(path))
            response = connection.getresponse()
            return response.status, response.headers.get("Location", ""), response.read()

        yield request
        connection.close()
        server.shutdown()
        thread.join()


def test_find_scenes_searches_the_folder_and_collections(root):
    assert list(find_scenes(root)) == ["collection/Küche & Bad", "collection/damaged", "single"]


def test_gallery_page_links_every_scene(get):
    status, _, page = get("/")
    text = page.decode()
    assert status == 200 and "3 scenes" in text
    assert 'href="collection/K%C3%BCche%20%26%20Bad/"' in text and "Küche &amp; Bad" in text
    assert text.count("<img") == 1 and "http" not in text.replace("http-equiv", "")


def test_scene_is_served_at_its_relative_path(get, scene, root):
    assert get("/collection/Küche & Bad")[:2] == (301, "/collection/K%C3%BCche%20%26%20Bad/")
    assert b"<canvas" in get("/collection/Küche & Bad/")[2]
    saved = type(scene).load(root / "single")
    assert get("/single/frames/3") == (200, "", frame_block(saved, 3))
    assert get("/collection/Küche & Bad/preview.png")[2].startswith(b"\x89PNG")


def test_damaged_scene_responds_with_the_reason(get):
    status, _, text = get("/collection/damaged/")
    assert status == 500 and b"depth.mkv" in text


@pytest.mark.parametrize(
    "path", ["/secret.txt", "/single/../secret.txt", "/single/scene.json", "/single/frames/9", "/notes/"]
)
def test_other_paths_are_not_found(get, path):
    assert get(path)[0] == 404


def test_replaced_scene_is_reloaded(get, scene, root):
    from dataclasses import replace

    before = get("/single/frames/0")[2]
    replace(scene, rgb=255 - scene.rgb, depth=scene.depth * np.float32(2)).save(root / "single")
    assert get("/single/frames/0")[2] != before
