"""COLMAP in a separate process: `python -m fourdnex.annotation.colmap_process FOLDER`

Reads FOLDER/images/{frame}.png and FOLDER/request.json, and writes FOLDER/result.npz. Called by
`fourdnex.annotation.structure_from_motion`, whose `Request` documents the settings.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

EXHAUSTIVE_FRAMES = 24
"""Max number of frames of which all pairs are matched."""
OVERLAP = 6
"""Each frame of more frames is matched with the next ones, and with those at distances of powers of two up to 2^6."""
SMALL_SIDE = 320
"""Images whose longer side is at most this have few features: they are detected at twice the size too."""
FOCAL_FACTORS = (0.8, 1.25)
"""Changes of the focal length that the observations must contradict."""


def main() -> None:
    """Command line of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the images, where the result is written")
    folder = parser.parse_args().folder
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    np.savez(folder / "result.npz", **_reconstruct(folder, request))  # type: ignore[arg-type]


def _reconstruct(folder: Path, request: dict[str, Any]) -> dict[str, np.ndarray]:
    """Match counts between neighboring frames and, if mapping succeeds, the arrays of the largest model."""
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    pycolmap.set_random_seed(request["seed"])
    database, images = folder / "database.db", folder / "images"
    _match(database, images, request["camera"])
    result = {"neighbor_matches": _neighbor_matches(database)}
    num_images = len(list(images.iterdir()))
    best = None
    for mapper in (_map_globally, _map_incrementally):
        model = mapper(database, folder, request)
        if model is not None and (best is None or model.num_reg_images() > best.num_reg_images()):
            best = model
        if best is not None and best.num_reg_images() == num_images:
            break
    if best is None:
        return result
    return result | _model_arrays(best) | {"focal_rise": np.array(_focal_rise(best))}


def _match(database: Path, images: Path, camera: list[float] | None) -> None:
    """Extract features and match them: all pairs of few images, else neighboring ones."""
    import pycolmap
    from PIL import Image

    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "SIMPLE_RADIAL"
    if camera is not None:
        reader.camera_params = ",".join(map(repr, camera))
    files = sorted(images.iterdir())
    with Image.open(files[0]) as first:
        is_small = max(first.size) <= SMALL_SIDE
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.use_gpu, extraction.num_threads = False, 1
    # Weak features are accepted, and only small images are enlarged: that takes four times as long.
    extraction.sift.max_num_features, extraction.sift.peak_threshold = 2048, 0.003
    extraction.sift.first_octave = -1 if is_small else 0
    pycolmap.extract_features(
        database,
        images,
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=reader,
        extraction_options=extraction,
        device=pycolmap.Device.cpu,
    )
    matching = pycolmap.FeatureMatchingOptions()
    matching.use_gpu, matching.num_threads = False, 1
    if len(files) <= EXHAUSTIVE_FRAMES:
        pycolmap.match_exhaustive(database, matching_options=matching, device=pycolmap.Device.cpu)
        return
    pairing = pycolmap.SequentialPairingOptions()
    pairing.overlap, pairing.quadratic_overlap, pairing.num_threads = OVERLAP, True, 1
    pycolmap.match_sequential(database, matching_options=matching, pairing_options=pairing, device=pycolmap.Device.cpu)


def _map_globally(database: Path, folder: Path, request: dict[str, Any]) -> Any:
    """The largest model of global mapping, which also succeeds for forward motion; None if there is none."""
    import pycolmap

    options = pycolmap.GlobalPipelineOptions()
    options.num_threads = options.mapper.num_threads = 1
    options.random_seed = options.mapper.random_seed = request["seed"]
    options.multiple_models = False
    adjustment = options.mapper.bundle_adjustment
    options.mapper.global_positioning.use_gpu = adjustment.ceres.use_gpu = False
    adjustment.refine_focal_length = adjustment.refine_extra_params = request["camera"] is None
    output = folder / "global"
    output.mkdir()
    try:
        return _largest(pycolmap.global_mapping(database, folder / "images", output, options))
    except (RuntimeError, ValueError):  # too few views for its rotations: the incremental mapper has its turn
        return None


def _map_incrementally(database: Path, folder: Path, request: dict[str, Any]) -> Any:
    """The largest model of incremental mapping; None if there is none."""
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = 1, request["seed"]
    options.min_model_size, options.multiple_models = 3, False
    options.ba_refine_focal_length = options.ba_refine_extra_params = request["camera"] is None
    # Clips are short: half a second of video rarely has the 16 degrees that COLMAP requires by default.
    options.mapper.init_min_tri_angle, options.mapper.init_min_num_inliers = 3.0, 40
    options.mapper.filter_min_tri_angle = options.triangulation.min_angle = 0.5
    output = folder / "incremental"
    output.mkdir()
    return _largest(pycolmap.incremental_mapping(database, folder / "images", output, options))


def _largest(models: dict[int, Any]) -> Any:
    """The model with the most images; None without models of three images."""
    found = [model for model in models.values() if model.num_reg_images() >= 3]
    return max(found, key=lambda model: (model.num_reg_images(), model.num_points3D()), default=None)


def _focal_rise(model: Any) -> list[float]:
    """Relative rise of the mean squared reprojection error for each of `FOCAL_FACTORS`.

    Everything but the focal length is adjusted again. Where the rise is small, the observations do not determine the
    focal length, and with it not the shape of the scene.
    """
    import pycolmap

    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.use_gpu = False
    options.ceres.solver_options.num_threads = 1
    options.ceres.solver_options.max_num_iterations = 30
    options.refine_focal_length = False
    rises = []
    base = _mean_squared_error(model, 1.0, options)
    for factor in FOCAL_FACTORS:
        rises.append(_mean_squared_error(model, factor, options) / max(base, 1e-12) - 1)
    return rises


def _mean_squared_error(model: Any, factor: float, options: Any) -> float:
    """Mean squared reprojection error, pixels^2, after adjustment with the focal length times `factor`."""
    import pycolmap

    changed = pycolmap.Reconstruction(model)
    for camera in changed.cameras.values():
        params = np.array(camera.params)
        params[0] *= factor
        camera.params = params
    pycolmap.bundle_adjustment(changed, options)
    changed.update_point_3d_errors()
    total = count = 0.0
    for image in changed.images.values():
        if not image.has_pose:
            continue
        seen = [point for point in image.points2D if point.has_point3D()]
        if not seen:
            continue
        points = np.stack([changed.points3D[point.point3D_id].xyz for point in seen])
        projected = image.cam_from_world() * points
        camera = changed.cameras[image.camera_id]
        pixels = camera.img_from_cam(projected)
        error = np.square(np.asarray(pixels) - np.stack([point.xy for point in seen])).sum(axis=1)
        valid = np.isfinite(error)
        total, count = total + float(np.minimum(error[valid], 100).sum()), count + int(valid.sum())
    return total / max(count, 1)


def _neighbor_matches(database: Path) -> np.ndarray:
    """Numbers of geometrically verified matches between consecutive frames."""
    import pycolmap

    with pycolmap.Database.open(database) as opened:
        ids = [image.image_id for image in sorted(opened.read_all_images(), key=lambda image: image.name)]
        counts = [
            len(opened.read_two_view_geometry(*pair).inlier_matches) if opened.exists_two_view_geometry(*pair) else 0
            for pair in pairwise(ids)
        ]
    return np.array(counts, np.int64)


def _model_arrays(model: Any) -> dict[str, np.ndarray]:
    """Arrays of a model: registered frames in order, camera (f, cx, cy, k1), camera_to_world, points, observations.

    Observations are (position of the frame in `frames`, point) pairs. The mean reprojection error is included.
    """
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    for pose, image in zip(poses, images, strict=True):
        pose[:3] = image.cam_from_world().inverse().matrix()
    order = {identity: number for number, identity in enumerate(model.points3D)}
    observations = [
        (position, order[point.point3D_id])
        for position, image in enumerate(images)
        for point in image.points2D
        if point.has_point3D()
    ]
    return {
        "frames": np.array([int(Path(image.name).stem) for image in images]),
        "camera": np.array(next(iter(model.cameras.values())).params),
        "camera_to_world": poses,
        "points": np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3),
        "observations": np.array(observations, np.int64).reshape(-1, 2),
        "reprojection_error": np.array(model.compute_mean_reprojection_error()),
    }


if __name__ == "__main__":
    main()
