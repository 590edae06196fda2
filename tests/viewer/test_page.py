"""The page without a browser: its content, its security policy, and how it is served and written."""

import re
import threading
from dataclasses import replace
from http.client import HTTPConnection

import pytest

from fourdnex.cli import main
from fourdnex.viewer import SceneServer, view, write_html
from fourdnex.viewer.frames import describe, frame_block
from fourdnex.viewer.page import build_page


@pytest.fixture
def server(scene):
    with SceneServer(scene, title="world", port=0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_page_has_no_external_address_and_forbids_requests(scene):
    for embedded, source in ((True, "'none'"), (False, "'self'")):
        page = build_page(describe(scene, title="world"), embedded=embedded)
        assert f'connect-src {source}"' in page and "default-src 'none'" in page
        assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", page)
        assert "{{" not in page.replace("{{}", "")


def test_scene_values_are_escaped(scene):
    evil = "</script><script>alert(1)</script>{{SCRIPTS}}"
    page = build_page(describe(replace(scene, provenance={evil: evil}), title=evil), embedded=False)
    assert "<script>alert" not in page
    assert page.count("</script>") == 2
    assert page.count("const scene = JSON.parse") == 1


def test_server_responds_to_the_page_and_frames_only(server, scene):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    responses = {}
    for path in ("/", "/frames/3", "/frames/5", "/frames/-1", "/../scene.json", "/frames/0/../../x"):
        connection.request("GET", path)
        response = connection.getresponse()
        responses[path] = response.status, response.read()
    assert [status for status, _ in responses.values()] == [200, 200, 404, 404, 404, 404]
    assert b"<canvas" in responses["/"][1]
    assert responses["/frames/3"][1] == frame_block(scene, 3)


def test_server_listens_on_loopback_and_skips_ports_in_use(server, scene):
    with SceneServer(scene, title="world", port=server.port) as second:
        assert second.server_address[0] == "127.0.0.1"
        assert second.port > server.port


def test_html_option_writes_one_file_and_reports_its_size(scene, tmp_path, capsys):
    scene.save(tmp_path / "süß scene")
    assert main(["view", str(tmp_path / "süß scene"), "--html", str(tmp_path / "out put.html")]) == 0
    page = (tmp_path / "out put.html").read_text(encoding="utf-8")
    assert "<title>süß scene</title>" in page and page.count('id="frame-') == 5
    assert re.search(r"out put\.html: \d\.\d MB", capsys.readouterr().out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out put.html", "süß scene"]


def test_invalid_paths_are_rejected(scene, tmp_path):
    with pytest.raises(ValueError, match=r"ending in \.html, got .*scene\.zip"):
        write_html(scene, tmp_path / "scene.zip")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_html(scene, tmp_path / "folder.html")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]
    with pytest.raises(FileNotFoundError, match=r"scene\.json"):
        view(tmp_path)
