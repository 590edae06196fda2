"""The page in headless Chromium: points are drawn, controls work, no console errors and no external requests."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.chromium import Chromium, find_chromium
from fourdnex.motion import track_scene
from fourdnex.viewer import SceneServer, write_html

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_chromium() is None, reason="requires Chromium: install it or set CHROMIUM to its executable"
    ),
]

BACKGROUND = np.array([13, 16, 20])
SCENE_ONLY = (slice(90, 480), slice(20, 440))  # without the panels


@pytest.fixture(scope="module")
def browser():
    with Chromium(find_chromium(), width=800, height=600) as running:
        yield running


@pytest.fixture
def page(browser, scene, tmp_path):
    """The one-file viewer with all frames loaded, paused at the first frame, without cameras."""
    write_html(scene, tmp_path / "scene.html")
    browser.requests.clear()
    browser.errors.clear()
    browser.open((tmp_path / "scene.html").as_uri())
    browser.wait_for("performance.getEntriesByName('all-frames').length")
    browser.evaluate("setPlaying(false), showFrame(0), document.getElementById('cameras').click()")
    return browser


def image(browser):
    """Screenshot of the redrawn canvas without the panels: [H, W, 3]."""
    browser.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    return browser.screenshot()[SCENE_ONLY].astype(int)


def coverage(image):
    return float((np.abs(image - BACKGROUND).max(axis=-1) > 12).mean())


def changed(first, second):
    return float((np.abs(first - second).max(axis=-1) > 12).mean())


def set_slider(browser, slider, value):
    """Set the value and dispatch the event, like a user."""
    browser.evaluate(
        f"(() => {{ const s = document.getElementById('{slider}'); s.value = {value}; "
        "s.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )


def test_one_file_draws_points_and_the_time_slider_changes_the_frame(page, tmp_path):
    first = image(page)
    assert coverage(first) > 0.3
    set_slider(page, "time", 4)
    assert changed(first, image(page)) > 0.02
    set_slider(page, "time", 0)
    assert changed(first, image(page)) == 0
    assert page.evaluate("document.getElementById('frame').textContent") == "1 / 5"
    assert page.errors == []
    assert page.requests == [(tmp_path / "scene.html").as_uri()]


def test_playback_loops(page):
    page.evaluate(
        "window.shown = []; const original = showFrame; showFrame = (t) => { shown.push(t); original(t); }; 0"
    )
    page.evaluate("document.getElementById('play').click()")
    shown = page.wait_for("shown.length > 6 && shown")
    assert shown[:7] == [1, 2, 3, 4, 0, 1, 2]
    assert page.errors == []


def test_every_control_changes_the_image(page):
    first = image(page)
    for mode in (1, 2, 3):
        page.evaluate(f"document.querySelector('[data-mode=\"{mode}\"]').click()")
        assert changed(first, image(page)) > 0.2
    page.evaluate("document.querySelector('[data-mode=\"0\"]').click()")
    set_slider(page, "size", 0.3)
    assert coverage(image(page)) < 0.9 * coverage(first)
    set_slider(page, "size", 1.1)
    set_slider(page, "time", 2)
    unfiltered = coverage(image(page))
    set_slider(page, "confidence", 0.5)  # the fixture's confidence increases over frames and rows
    assert coverage(image(page)) < 0.8 * unfiltered
    set_slider(page, "confidence", 0)
    before = image(page)
    page.evaluate("document.getElementById('cameras').click()")
    assert changed(before, image(page)) > 0.0005
    assert page.errors == []


def test_drag_orbits_and_reset_restores_the_view(page):
    first = image(page)
    page.mouse("mousePressed", 300, 300, button="left", buttons=1, clickCount=1)
    page.mouse("mouseMoved", 420, 320, button="left", buttons=1)
    page.mouse("mouseReleased", 420, 320, button="left", buttons=0, clickCount=1)
    assert changed(first, image(page)) > 0.05
    page.mouse("mouseWheel", 300, 300, deltaX=0, deltaY=240)
    assert coverage(image(page)) < coverage(first)
    page.evaluate("document.getElementById('reset').click()")
    page.evaluate("document.getElementById('hint').remove()")
    assert changed(first, image(page)) < 0.02  # except for the hint
    assert page.errors == []


def test_camera_view_reproduces_the_frame_and_its_motion(page, scene, world):
    """From its own camera, the point cloud reproduces the colors and the motion of a frame."""
    page.evaluate(
        "showFrame(2), document.getElementById('edges').value = 0, document.getElementById('camera-view').click()"
    )
    page.evaluate("document.querySelector('[data-mode=\"0\"]').click()")
    page.evaluate("document.querySelectorAll('.panel, #hint').forEach((part) => { part.style.opacity = 0; })")
    projections = page.evaluate(
        "(() => { const { matrix: m } = viewProjection(), p = poses[2];"
        "const [fx, fy, cx, cy] = scene.intrinsics, found = [];"
        "for (const [u, v] of [[10, 10], [36, 24], [60, 40], [20, 30]]) {"
        "  const w = add(column(p, 3), rotate(p, [(u - cx) / fx * 3, (v - cy) / fy * 3, 3]));"
        "  const c = [0, 1, 3].map((r) => m[r] * w[0] + m[4 + r] * w[1] + m[8 + r] * w[2] + m[12 + r]);"
        "  const [x, y] = [(c[0] / c[2] + 1) / 2, (1 - c[1] / c[2]) / 2];"
        "  found.push([u, v, x * canvas.clientWidth, y * canvas.clientHeight]); } return found; })()"
    )
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    shot = page.screenshot().astype(int)
    for u, v, x, y in projections:
        near = scene.rgb[2, v - 1 : v + 2, u - 1 : u + 2].reshape(-1, 3)  # neighboring points overlap
        assert np.abs(shot[round(y), round(x)] - near).max(axis=-1).min() < 16
    page.evaluate("document.querySelector('[data-mode=\"2\"]').click()")
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    shot = page.screenshot().astype(int)
    for u, v, x, y in projections:
        if not world.dynamic_mask[2, v - 2 : v + 3, u - 2 : u + 3].any():
            assert np.abs(shot[round(y), round(x)] - (35, 36, 63)).max() < 16  # the color of static points


def test_point_size_1_leaves_no_gaps_in_the_camera_view(browser, scene, tmp_path):
    """Discs as wide as a pixel would leave gaps between four of them, 14 to 22 % of the image."""
    write_html(replace(scene, rgb=np.full_like(scene.rgb, 255)), tmp_path / "white.html")
    browser.open((tmp_path / "white.html").as_uri())
    browser.wait_for("performance.getEntriesByName('all-frames').length")
    browser.evaluate("setPlaying(false), showFrame(0), document.getElementById('camera-view').click()")
    browser.evaluate("document.querySelectorAll('.panel, #hint').forEach((part) => { part.style.opacity = 0; })")
    set_slider(browser, "edges", 0)
    set_slider(browser, "size", 1)
    browser.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    wall = browser.screenshot()[30:240, 60:740]  # faces the camera: no point is enlarged for a slant
    assert (wall > 200).all(axis=-1).mean() > 0.995


def test_served_page_loads_the_first_frame_first_and_requests_only_its_server(browser, scene):
    with SceneServer(scene, title="world", port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser.requests.clear()
        browser.errors.clear()
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.wait_for("performance.getEntriesByName('all-frames').length")
        time.sleep(0.1)
        assert coverage(image(browser)) > 0.3
        server.shutdown()
        thread.join()
        base_url = f"http://127.0.0.1:{server.port}/"
        assert browser.requests[:2] == [base_url, f"{base_url}frames/0"]
        assert sorted(browser.requests[2:]) == [f"{base_url}frames/{t}" for t in range(1, 5)]
        assert browser.errors == []


def test_trails_and_origins_are_drawn(browser, scene, tmp_path):
    origin = np.full(scene.depth.shape, 2)
    write_html(replace(scene, tracks=track_scene(scene), origin=origin), tmp_path / "tracked.html")
    browser.errors.clear()
    browser.open((tmp_path / "tracked.html").as_uri())
    browser.wait_for("performance.getEntriesByName('all-frames').length")
    browser.evaluate("setPlaying(false), showFrame(4), document.getElementById('cameras').click(), setMode(4)")
    shown = image(browser)
    assert browser.evaluate("state.numTrailSegments") > 0
    browser.evaluate("document.getElementById('trails').click()")
    without = image(browser)
    assert 0 < changed(shown, without) < 0.2
    assert (np.abs(without - np.array([0x5B, 0x8D, 0xEF])).max(axis=-1) < 3).mean() > 0.3
    assert browser.evaluate("document.getElementById('origins').hidden") is False
    assert browser.errors == []
