"""The served model: images as paths or content in, scenes out, and a clear error for everything else."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest

from fourdnex import tracking
from fourdnex.scene import Scene4D
from fourdnex.tracking.registry import RegisteredAdapter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def png() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def served(tracked_project, write_adapter, random_base):
    import orchestration
    from fourdnex.model.adapter import adapter_digest
    from fourdnex.model.presets import base_digest

    workspace = tracked_project.workspace
    adapter = write_adapter(workspace.adapter("random"), random_base)
    digest = adapter_digest(adapter)
    report = workspace.evaluation_of(digest) / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"settings": {"adapter_digest": digest}}))
    registered: RegisteredAdapter = tracking.register_challenger(
        adapter,
        report=report,
        model_code=f"{orchestration.__path__[0]}/scene_model.py",
        config={"base_model": str(random_base), "base_digest": base_digest(str(random_base))},
        adapter_identity={"adapter_digest": digest},
        workspace=workspace,
    )
    return tracking.load_served(registered, workspace=workspace)


@pytest.fixture
def post(served):
    """Posts one image to the server that `mlflow models serve` runs; its status and answer."""
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    client = TestClient(init(served), raise_server_exceptions=False)

    def send(image, **params):
        answer = client.post("/invocations", json={"dataframe_records": [{"image": image}], "params": params})
        return answer.status_code, answer.json()

    return send


def test_paths_and_content_become_scenes_and_everything_else_an_error(post, png, tmp_path):
    (tmp_path / "noise.png").write_bytes(png)
    (tmp_path / "text.png").write_text("this is a text file")
    encoded = base64.b64encode(png).decode()
    scenes = []
    for image, name in (
        (str(tmp_path / "noise.png"), str(tmp_path / "noise.png")),
        (encoded, "image-0000"),
        (f"data:image/png;base64,{encoded}", "image-0000"),
    ):
        status, answer = post(image, output_dir=str(tmp_path / f"scenes-{len(scenes)}"))
        assert status == 200, answer
        (row,) = answer["predictions"]
        assert row["image"] == name
        scenes.append(Scene4D.load(row["scene"]))
    assert all(np.array_equal(scene.rgb, scenes[0].rgb) for scene in scenes)

    for image, message in (
        (None, "image, row 0: expected a path, or an image file as bytes, base64 or a data: URL, got None"),
        (3, "image, row 0: expected a path"),
        ("", "image, row 0: expected a path"),
        ("no.jpg", "image, row 0: no.jpg: there is no such file on the server"),
        (str(tmp_path), "there is no such file on the server"),
        ("a.b" * 2000, "there is no such file on the server"),
        (str(tmp_path / "text.png"), "text.png: not an image"),
        (base64.b64encode(b"text" * 40).decode(), "image-0000: not an image"),
        (encoded[:-60], "image-0000: "),
    ):
        status, answer = post(image, output_dir=str(tmp_path / "none"))
        assert status == 400 and message in answer["message"], answer
        assert "Traceback" not in json.dumps(answer)
    assert not (tmp_path / "none").exists()


def test_tables_may_hold_bytes(served, png, tmp_path):
    from mlflow.exceptions import MlflowException

    declared = {param.name for param in served.metadata.signature.params}  # MLflow drops all others
    assert declared == {"output_dir", "seed", "size", "resolution", "camera", "camera_pace"}
    made = served.predict(pd.DataFrame({"image": [png]}), params={"output_dir": str(tmp_path)})
    assert made["image"].tolist() == ["image-0000"] and Scene4D.load(made["scene"][0]).num_frames == 17
    captioned = pd.DataFrame({"image": [png] * 2, "prompt": ["Noise", None]})
    params = {"output_dir": str(tmp_path / "captioned"), "camera": "still", "size": "96x64"}
    scenes = [Scene4D.load(scene) for scene in served.predict(captioned, params=params)["scene"]]
    prompts = [scene.provenance["prompt"] for scene in scenes]
    assert prompts == ["Noise. The camera stays still.", "The camera stays still."]
    assert scenes[0].rgb.shape[1:3] == (96, 64)
    with pytest.raises(MlflowException, match=r"^camera: expected one of"):
        served.predict(captioned, params={"camera": "up"})
    assert served.predict(pd.DataFrame({"image": []}, dtype=object)).empty
    for table, message in (
        ({"image": [png, None]}, "image, row 1: expected a path"),
        ({"image": ["a.png"]}, "image"),
    ):
        with pytest.raises(MlflowException, match=message):
            served.predict(pd.DataFrame(table))
