"""The viewer answers to its own names only."""

import http.client
import socket
import threading

import pytest

from fourdnex.viewer.hosts import VARIABLE, is_known_host
from fourdnex.viewer.server import GalleryServer


@pytest.mark.parametrize("host", [
    None, "", "localhost", "LOCALHOST:8080", "localhost.", "a.localhost:1", "127.0.0.1:8080", "[::1]:8080",
    "192.168.1.7", socket.gethostname(), "viewer.example:80",
])  # fmt: skip
def test_names_of_the_viewer(host, monkeypatch):
    monkeypatch.setenv(VARIABLE, "other.example, viewer.example")
    assert is_known_host(host, "0.0.0.0")


@pytest.mark.parametrize("host", ["site.example", "localhost.site.example", "127.0.0.1.site.example:8080", "x"])
def test_names_of_other_sites(host):
    assert not is_known_host(host, "127.0.0.1")


def test_the_name_that_it_listens_on_is_known():
    assert is_known_host("scenes.lan:8080", "scenes.lan")


def test_a_request_of_another_site_gets_nothing(tmp_path):
    with GalleryServer(tmp_path, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for host, status in (("site.example", 421), (f"localhost:{server.port}", 200)):
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("GET", "/", headers={"Host": host})
            answer = connection.getresponse()
            assert (answer.status, VARIABLE in answer.read().decode()) == (status, status == 421)
            connection.close()
        server.shutdown()
