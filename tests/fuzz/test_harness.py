"""The fuzzing harness itself: it detects what it is meant to detect."""

import json
import pickle
import random
import subprocess

import pytest

from fourdnex.io.files import read_json
from tests.fuzz import mutations
from tests.fuzz.mutations import Executed, OutOfTime, check_reader, fuzz, mutate_bytes, mutate_json, mutate_value

CONTENT = json.dumps({"a": [1, 2.5, {"b": "text"}], "c": None, "d": {"e": True}}).encode()


@pytest.mark.parametrize("mutate", [mutate_bytes, mutate_json])
def test_mutations_are_seeded_and_almost_always_change_the_file(mutate):
    first, second = ([mutate(CONTENT, random.Random(seed)) for seed in range(200)] for _ in range(2))
    assert first == second
    assert len({content for content in first if content != CONTENT}) > 120


def test_json_mutations_reach_every_value():
    unchanged = {"a", "c", "d"}
    for seed in range(200):
        value = mutate_value(json.loads(CONTENT), random.Random(seed))
        unchanged -= {key for key in unchanged if not isinstance(value, dict) or key not in value}
    assert not unchanged


def test_the_valid_file_is_restored(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(CONTENT)
    results = fuzz(file, read_json, cases=50)
    assert file.read_bytes() == CONTENT
    assert results["read"] and results["ValueError"] and results.total() == 50


def test_an_undocumented_error_fails(tmp_path):
    def read(file):
        raise KeyError("a")

    with pytest.raises(AssertionError, match=r"a\.json, : expected ValueError or OSError, got KeyError\('a'\)"):
        check_reader(read, tmp_path / "a.json")


@pytest.mark.parametrize(("message", "expected"), [("", "without a message"), ("damaged", "not named in")])
def test_an_error_without_the_name_of_the_file_fails(tmp_path, message, expected):
    def read(file):
        raise ValueError(message)

    with pytest.raises(AssertionError, match=expected):
        check_reader(read, tmp_path / "a.json")


def test_a_reader_that_hangs_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(mutations, "TIME_LIMIT", 1)

    def read(file):
        try:
            while True:
                pass
        except Exception:
            return

    with pytest.raises(OutOfTime):
        check_reader(read, tmp_path / "a.json")


class Runs:
    """Runs a program when it is unpickled."""

    def __reduce__(self):
        return subprocess.call, (["true"],)


@pytest.mark.parametrize("read", [lambda file: pickle.loads(file.read_bytes()), lambda file: subprocess.call(["true"])])
def test_a_reader_that_executes_something_is_stopped(tmp_path, read):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(Executed):
        check_reader(read, tmp_path / "a.pkl")
