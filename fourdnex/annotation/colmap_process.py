"""COLMAP in a separate process: `python -m fourdnex.annotation.colmap_process FOLDER`

Reads FOLDER/images/{frame}.png and writes FOLDER/result.npz. Called by `fourdnex.annotation.structure_from_motion`.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np


def main() -> None:
    """Command line of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the images, where the result is written")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    arguments = parser.parse_args()
    np.savez(arguments.folder / "result.npz", **_reconstruct(arguments.folder, arguments.seed))  # type: ignore[arg-type]


def _reconstruct(folder: Path, seed: int) -> dict[str, np.ndarray]:
    """Match counts between neighboring frames and, if mapping succeeds, the arrays of the largest model."""
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    pycolmap.set_random_seed(seed)
    database, images, output = folder / "database.db", folder / "images", folder / "sparse"
    output.mkdir()
    _match(database, images)
    mapping = pycolmap.IncrementalPipelineOptions()
    mapping.num_threads, mapping.random_seed = 1, seed
    mapping.min_model_size, mapping.multiple_models = 3, False
    # Clips are short: half a second of video rarely has the 16 degrees that COLMAP requires by default.
    mapping.mapper.init_min_tri_angle, mapping.mapper.init_min_num_inliers = 3.0, 40
    mapping.mapper.filter_min_tri_angle = mapping.triangulation.min_angle = 0.5
    models = pycolmap.incremental_mapping(database, images, output, mapping)
    result = {"neighbor_matches": _neighbor_matches(database)}
    if models:
        largest = max(models.values(), key=lambda model: (model.num_reg_images(), model.num_points3D()))
        result |= _model_arrays(largest)
    return result


def _match(database: Path, images: Path) -> None:
    """Extract features and match them: all pairs of at most 32 images, else neighboring ones."""
    import pycolmap

    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "SIMPLE_PINHOLE"
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.use_gpu, extraction.num_threads = False, 1
    # Small images have few features, so weaker ones are accepted.
    extraction.sift.max_num_features, extraction.sift.peak_threshold = 2048, 0.003
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
    if len(list(images.iterdir())) <= 32:
        pycolmap.match_exhaustive(database, matching_options=matching, device=pycolmap.Device.cpu)
    else:
        pycolmap.match_sequential(database, matching_options=matching, device=pycolmap.Device.cpu)


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


def _model_arrays(model: object) -> dict[str, np.ndarray]:
    """Arrays of a model: registered frames in order, camera (f, cx, cy), camera_to_world, points, observations.

    Observations are (frame, point) pairs. The mean reprojection error is included.
    """
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)  # type: ignore[attr-defined]
    frames = [int(Path(image.name).stem) for image in images]
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    for pose, image in zip(poses, images, strict=True):
        pose[:3] = image.cam_from_world().inverse().matrix()
    order = {identity: number for number, identity in enumerate(model.points3D)}  # type: ignore[attr-defined]
    observations = [
        (frame, order[point.point3D_id])
        for frame, image in zip(frames, images, strict=True)
        for point in image.points2D
        if point.has_point3D()
    ]
    return {
        "frames": np.array(frames),
        "camera": np.array(next(iter(model.cameras.values())).params),  # type: ignore[attr-defined]
        "camera_to_world": poses,
        "points": np.array([point.xyz for point in model.points3D.values()]),  # type: ignore[attr-defined]
        "observations": np.array(observations).reshape(-1, 2),
        "reprojection_error": np.array(model.compute_mean_reprojection_error()),  # type: ignore[attr-defined]
    }


if __name__ == "__main__":
    main()
