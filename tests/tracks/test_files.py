import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fourdnex import Scene4D
from fourdnex.motion import track_scene
from fourdnex.tracks import Tracks
from fourdnex.tracks.files import read_tracks, write_tracks

FIELDS = ("visible", "first_frame", "pixel", "rgb", "moves")


@pytest.fixture(scope="module")
def tracks(moving_box):
    return track_scene(moving_box)


def test_round_trip_is_quantized_once(tracks, tmp_path):
    write_tracks(tracks, tmp_path / "a.safetensors")
    loaded = read_tracks(tmp_path / "a.safetensors")
    assert all((getattr(loaded, name) == getattr(tracks, name)).all() for name in FIELDS)
    assert (np.isnan(loaded.positions) == np.isnan(tracks.positions)).all()
    assert np.nanmax(np.abs(loaded.positions - tracks.positions)) < 5e-5 * 5  # of an extent of about 5
    write_tracks(loaded, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.safetensors").stat().st_size < 40_000


def test_empty_tracks_round_trip(tracks, tmp_path):
    write_tracks(tracks.select(np.arange(0)), tmp_path / "a.safetensors")
    loaded = read_tracks(tmp_path / "a.safetensors")
    assert len(loaded) == 0 and loaded.num_frames == tracks.num_frames


def test_errors_name_the_file(tracks, tmp_path):
    file = tmp_path / "a.safetensors"
    write_tracks(tracks, file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        read_tracks(file)
    with pytest.raises(FileNotFoundError, match=r"b\.safetensors"):
        read_tracks(tmp_path / "b.safetensors")


def test_scene_saves_and_loads_tracks(moving_box, tracks, tmp_path):
    replace(moving_box, tracks=tracks).save(tmp_path / "with")
    moving_box.save(tmp_path / "without")
    for name in ("rgb.mkv", "depth.mkv", "cameras.json"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    loaded = Scene4D.load(tmp_path / "with")
    assert len(loaded.tracks) == len(tracks)
    assert Scene4D.load(tmp_path / "without").tracks is None
    assert Scene4D.load(tmp_path / "with", tracks=False).tracks is None
    assert Scene4D.load(tmp_path / "with", frame=2).tracks is None
    file = tmp_path / "with" / "tracks.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"tracks\.safetensors: truncated or changed"):
        Scene4D.load(tmp_path / "with")
    assert Scene4D.load(tmp_path / "with", tracks=False).tracks is None


def test_invalid_tracks_are_rejected(moving_box, tracks):
    valid = {name: getattr(tracks, name) for name in ("positions", *FIELDS)}
    with pytest.raises(ValueError, match=r"visible: expected \[N, T\] bool, got"):
        Tracks(**valid | {"visible": tracks.visible[:, 1:]})
    with pytest.raises(ValueError, match="rgb: expected"):
        Tracks(**valid | {"rgb": tracks.rgb / 255})
    with pytest.raises(ValueError, match="positions: expected NaN before the first frame"):
        Tracks(**valid | {"positions": np.nan_to_num(tracks.positions)})
    with pytest.raises(ValueError, match="first_frame: expected tracks in the order"):
        Tracks(**valid | {"first_frame": tracks.first_frame[::-1]})
    short = replace(moving_box, **{name: getattr(moving_box, name)[:5] for name in ("rgb", "depth", "camera_to_world")})
    with pytest.raises(ValueError, match="tracks: expected 5 frames, got 6"):
        replace(short, tracks=tracks)


def test_loading_a_scene_with_tracks_does_not_import_torch(moving_box, tracks, tmp_path):
    replace(moving_box, tracks=tracks).save(tmp_path / "s")
    code = "import sys; from fourdnex import Scene4D; Scene4D.load(sys.argv[1]).tracks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
