"""All scenes of a folder behind one address."""

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
    """Two collections, names with all that names have, a damaged scene, and things that are no scenes."""
    scene.save(tmp_path / "alle" / "Küche & Bad")
    Image.fromarray(scene.rgb[0]).save(tmp_path / "alle" / "Küche & Bad" / "preview.png")
    scene.save(tmp_path / "alle" / "damaged")
    (tmp_path / "alle" / "damaged" / "depth.mkv").write_bytes(b"")
    scene.save(tmp_path / "alle" / ".unfinished")
    scene.save(tmp_path / "lone")
    (tmp_path / "notes").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path


@pytest.fixture
def get(root):
    with GalleryServer(root, port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)

        def ask(path: str) -> tuple[int, str, bytes]:
            connection.request("GET", quote(path))
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Location", ""), answer.read()

        yield ask
        connection.close()
        server.shutdown()
        thread.join()


def test_scenes_are_found_in_the_folder_and_in_collections(root):
    assert list(find_scenes(root)) == ["alle/Küche & Bad", "alle/damaged", "lone"]


def test_the_first_page_leads_to_every_scene(get):
    status, _, page = get("/")
    text = page.decode()
    assert status == 200 and "3 scenes" in text
    assert 'href="alle/K%C3%BCche%20%26%20Bad/"' in text and "Küche &amp; Bad" in text
    assert text.count("<img") == 1 and "http" not in text.replace("http-equiv", "")


def test_a_scene_is_served_below_its_name(get, scene, root):
    assert get("/alle/Küche & Bad")[:2] == (301, "/alle/K%C3%BCche%20%26%20Bad/")
    assert b"<canvas" in get("/alle/Küche & Bad/")[2]
    saved = type(scene).load(root / "lone")
    assert get("/lone/frames/3") == (200, "", frame_block(saved, 3))
    assert get("/alle/Küche & Bad/preview.png")[2].startswith(b"\x89PNG")


def test_a_damaged_scene_says_what_is_wrong(get):
    status, _, text = get("/alle/damaged/")
    assert status == 500 and b"depth.mkv" in text


@pytest.mark.parametrize(
    "path", ["/secret.txt", "/lone/../secret.txt", "/lone/scene.json", "/lone/frames/9", "/notes/"]
)
def test_nothing_else_is_given_away(get, path):
    assert get(path)[0] == 404


def test_a_scene_that_was_made_again_is_shown_as_it_is_now(get, scene, root):
    from dataclasses import replace

    before = get("/lone/frames/0")[2]
    replace(scene, rgb=255 - scene.rgb, depth=scene.depth * np.float32(2)).save(root / "lone")
    assert get("/lone/frames/0")[2] != before
