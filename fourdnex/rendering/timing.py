"""Number of views and frame rate of a video."""

from fourdnex.scene import Scene4D


def views_and_rate(scene: Scene4D, num_views: int | None = None, fps: float | None = None) -> tuple[int, float]:
    """Number of views and frames per second of a video with the scene's duration.

    If neither is given, both are the scene's. If one is given, the other follows from the duration. If both are given,
    they are used as they are, and the duration may differ.

    Raises:
        ValueError: a number is not positive.
    """
    for name, value in (("num_views", num_views), ("fps", fps)):
        if value is not None and not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")
    seconds = scene.num_frames / scene.fps
    if num_views is None:
        num_views = scene.num_frames if fps is None else max(1, round(seconds * fps))
    return num_views, num_views / seconds if fps is None else fps
