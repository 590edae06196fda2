"""Camera motion in captions, in the vocabulary of the procedural worlds that adapters are trained on."""

from __future__ import annotations

import re
from typing import Literal, get_args

Camera = Literal[
    "orbit-left",
    "orbit-right",
    "dolly-in",
    "dolly-out",
    "truck-left",
    "truck-right",
    "pan-left",
    "pan-right",
    "still",
]
Pace = Literal["slowly", "steadily", "quickly"]

_VERBS = {"orbit": "orbits", "dolly": "dollies", "truck": "trucks", "pan": "pans"}
_SENTENCE = re.compile(r"\s*\bthe camera\b[^.!?]*(?:[.!?]|$)", re.IGNORECASE)


def camera_sentence(camera: str, pace: str = "slowly") -> str:
    """The caption's sentence for a camera motion.

    Args:
        camera: "orbit" moves around the point the camera looks at, "truck" sideways without rotation, "dolly" forward
            or backward; "pan" rotates in place; "still" is a static camera.
        pace: speed of the motion.

    Raises:
        ValueError: an unknown motion or speed.
    """
    for name, value, choices in (("camera", camera, get_args(Camera)), ("camera_pace", pace, get_args(Pace))):
        if value not in choices:
            raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    if camera == "still":
        return "The camera stays still."
    verb, direction = camera.split("-")
    return f"The camera {_VERBS[verb]} {direction} {pace}."


def with_camera(caption: str, sentence: str) -> str:
    """`caption` with its sentences that begin with "The camera" replaced by `sentence` at the end."""
    rest = _SENTENCE.sub("", caption).strip()
    if rest and rest[-1] not in ".!?":
        rest += "."
    return f"{rest} {sentence}".strip()


def mentions_content(caption: str) -> bool:
    """Whether a caption says anything besides the camera motion."""
    return bool(_SENTENCE.sub("", caption).strip(" .!?"))
