"""How a caption says where the camera goes: in the words of the worlds that adapters learn from."""

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
    """The sentence for a way of the camera, as the captions of procedural worlds have it.

    orbit-left: the camera moves to the left around what it looks at; truck: sideways without turning; pan: turns in
    its place; dolly: forward or back.

    Raises:
        ValueError: another way or pace.
    """
    for name, value, known in (("camera", camera, get_args(Camera)), ("camera_pace", pace, get_args(Pace))):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    if camera == "still":
        return "The camera stays still."
    verb, way = camera.split("-")
    return f"The camera {_VERBS[verb]} {way} {pace}."


def with_camera(caption: str, sentence: str) -> str:
    """`caption` with `sentence` at its end, in place of sentences that begin with "The camera"."""
    rest = _SENTENCE.sub("", caption).strip()
    if rest and rest[-1] not in ".!?":
        rest += "."
    return f"{rest} {sentence}".strip()


def tells_of_things(caption: str) -> bool:
    """Whether a caption says anything but what the camera does."""
    return bool(_SENTENCE.sub("", caption).strip(" .!?"))
