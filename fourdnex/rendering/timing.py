"""Length and frame rate of a video of a scene."""

from fourdnex.scene import Scene4D


def views_and_rate(scene: Scene4D, num_views: int | None = None, fps: float | None = None) -> tuple[int, float]:
    """Number of views and frames a second of a video that lasts as long as the scene.

    Without both, the scene's own; with one, the other follows from the scene's duration; with both, they are taken as
    they are and the video may last longer or shorter.

    Raises:
        ValueError: a number that is not positive.
    """
    for name, value in (("num_views", num_views), ("fps", fps)):
        if value is not None and not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")
    seconds = scene.num_frames / scene.fps
    if num_views is None:
        num_views = scene.num_frames if fps is None else max(1, round(seconds * fps))
    return num_views, num_views / seconds if fps is None else fps
