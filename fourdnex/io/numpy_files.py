"""Numpy files of unknown origin, read so that nothing in them runs and no size that they claim is believed.

Object arrays are pickles. The unpickler here knows arrays, dtypes and scalars of numpy, dicts, lists, tuples, strings
and numbers. It makes records of its own of the first three, so that not even numpy's constructors see what a file says
before it is checked.
"""

from __future__ import annotations

import math
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Collection
from typing import IO, Any

import numpy as np

MAX_BYTES = 1 << 32
"""Of one array."""
_MAX_RATIO = 1032
"""Deflate cannot pack better than this."""
_NUMBER = re.compile(r"[biuf][1248]")


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of a `.npy` file, read-only.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is no such file, holds other things than numbers, or fewer of them than it claims.
    """
    with open(path, "rb") as file:
        return _read_array(file, os.fstat(file.fileno()).st_size, str(path))


def read_npz(path: str | os.PathLike[str], names: Collection[str], *, pickled: bool = False) -> dict[str, np.ndarray]:
    """Arrays of numbers of a `.npz` file, by name, read-only.

    Args:
        names: of the arrays; others are not read.
        pickled: an array may also be an entry of a dict that is stored as an object array without dimensions.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is no such file, it lacks a name, or one of the arrays holds other things than numbers, fewer of
            them than it claims, or a pickle of anything but numpy arrays, dicts, lists, tuples, strings and numbers.
    """
    found: dict[str, Any] = {}
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    name, where = member.filename.removesuffix(".npy"), f"{path}: {member.filename}"
                    if name in names or pickled:
                        _check_member(member, where)
                        with archive.open(member) as stream:
                            value = _read_array(stream, member.file_size, where, pickled=pickled)
                        found |= value if isinstance(value, dict) else {name: value}
        except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError) as error:
            raise ValueError(f"{path}: expected a whole .npz file: {error}") from error
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{path}: expected {', '.join(names)}; missing: {', '.join(missing)}")
    for name in names:
        if not isinstance(found[name], np.ndarray):
            raise ValueError(f"{path}: {name}: expected an array of numbers, got {type(found[name]).__name__}")
    return {name: found[name] for name in names}


def _check_member(member: zipfile.ZipInfo, where: str) -> None:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{where}: expected a stored or deflated member, got compression {member.compress_type}")
    if member.file_size > min(MAX_BYTES, _MAX_RATIO * (member.compress_size + 1)):
        raise ValueError(f"{where}: claims {member.file_size} bytes, more than {member.compress_size} can hold")


def _read_array(file: IO[bytes], size: int, where: str, *, pickled: bool = False) -> Any:
    """The array in a stream of `size` bytes, or the dict that an object array without dimensions holds."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = header(file)
    except (ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"{where}: expected a header of the .npy format, version 1 or 2: {error}") from error
    if dtype.hasobject and pickled and shape == ():
        return _unpickle(file, where)
    if dtype.kind not in "biuf":
        raise ValueError(f"{where}: expected an array of numbers, got {dtype} {shape}")
    claimed, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if claimed != held or claimed > MAX_BYTES or min(shape, default=0) < 0:
        raise ValueError(f"{where}: {dtype} {shape}: expected {claimed} bytes, found {held}")
    content = file.read(claimed)
    if len(content) != claimed:
        raise ValueError(f"{where}: {dtype} {shape}: expected {claimed} bytes, found {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _unpickle(file: IO[bytes], where: str) -> dict[str, Any]:
    try:
        value = _Unpickler(file).load()
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{where}: pickle refused: {error}") from error
    content = value.content if isinstance(value, _Array) else value
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected a dict in an object array, got {type(content).__name__}")
    return {str(key): entry.content if isinstance(entry, _Array) else entry for key, entry in content.items()}


class _Unpickler(pickle.Unpickler):
    """Gives pickles these methods to call, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        match module.replace("numpy._core", "numpy.core"), name:
            case "numpy.core.multiarray", "_reconstruct":
                return self._array
            case "numpy.core.multiarray", "scalar":
                return self._scalar
            case "numpy", "dtype":
                return self._dtype
            case "numpy", "ndarray":
                return "ndarray"  # only ever the argument of _reconstruct
        raise ValueError(f"expected numpy arrays, dicts, lists, tuples, strings and numbers only, got {module}.{name}")

    def _array(self, *_: Any) -> _Array:
        return _Array()

    def _dtype(self, code: str, *_: Any) -> _Dtype:
        return _Dtype(code)

    def _scalar(self, dtype: _Dtype, content: bytes) -> Any:
        return np.frombuffer(content, dtype.of_numbers)[0]


class _Array:
    """An array as it is pickled: made empty, then given its state."""

    __slots__ = ("content",)

    def __init__(self) -> None:
        self.content: Any = None

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, Any]) -> None:
        _, shape, dtype, is_fortran, content = state
        if not dtype.is_object:
            self.content = np.frombuffer(content, dtype.of_numbers).reshape(shape, order="F" if is_fortran else "C")
        elif shape == ():
            (self.content,) = content
        else:
            raise ValueError(f"expected an object array without dimensions, got {shape}")


class _Dtype:
    """A dtype as it is pickled: made of its code, then given its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    @property
    def is_object(self) -> bool:
        return self.code in ("O", "O8")

    @property
    def of_numbers(self) -> np.dtype[Any]:
        if not _NUMBER.fullmatch(self.code) or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"expected a dtype of numbers, got {self.order}{self.code}")
        return np.dtype(self.order + self.code)
