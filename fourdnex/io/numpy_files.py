"""Safe reading of numpy files from untrusted sources: no code is executed, and declared sizes are verified.

Object arrays are pickles. The restricted unpickler accepts only numpy arrays, dtypes and scalars, dicts, lists, tuples,
strings and numbers. It replaces the first three by placeholders, so that not even numpy's constructors see unverified
data.
"""

from __future__ import annotations

import errno
import math
import os
import pickle
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from typing import IO, Any

import numpy as np

MAX_BYTES = 1 << 32
"""Max size of one array."""
_MAX_RATIO = 1032
"""Highest compression ratio that deflate can reach."""
# What numpy raises for a damaged header, which it parses as a Python literal.
_HEADER_ERRORS = (ValueError, TypeError, IndexError, KeyError, AttributeError, SyntaxError, tokenize.TokenError,
                  MemoryError, RecursionError)  # fmt: skip
_NUMERIC_CODE = re.compile(r"[biuf][1248]")


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the array of a `.npy` file; the array is read-only.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has another format, holds other data than numbers, or less data than its header declares.
    """
    with open(path, "rb") as file:
        return _read_array(file, os.fstat(file.fileno()).st_size, str(path))


def read_npz(path: str | os.PathLike[str], names: Collection[str], *, pickled: bool = False) -> dict[str, np.ndarray]:
    """Read numeric arrays of a `.npz` file by name; the arrays are read-only.

    Args:
        path: the file.
        names: of the arrays to read; others are ignored.
        pickled: also look for the arrays in dicts that are stored as zero-dimensional object arrays.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file has another format or lacks an array; or an array holds other data than numbers, less data
            than its header declares, or a pickle of anything but numpy arrays, dicts, lists, tuples, strings and
            numbers.
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
        except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: expected an undamaged .npz file: {error}") from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ValueError(f"{path}: expected an undamaged .npz file, got an offset outside of it") from error
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{path}: expected {', '.join(names)}; missing: {', '.join(missing)}")
    for name in names:
        if not isinstance(found[name], np.ndarray):
            raise ValueError(f"{path}: {name}: expected an array of numbers, got {type(found[name]).__name__}")
    return {name: found[name] for name in names}


def _check_member(member: zipfile.ZipInfo, where: str) -> None:
    """Raise ValueError for a compression method or a declared size that a .npz file cannot have."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{where}: expected a stored or deflated member, got compression {member.compress_type}")
    if member.file_size > min(MAX_BYTES, _MAX_RATIO * (member.compress_size + 1)):
        raise ValueError(
            f"{where}: declares {member.file_size} bytes, more than {member.compress_size} compressed bytes can hold"
        )


def _read_array(file: IO[bytes], size: int, where: str, *, pickled: bool = False) -> Any:
    """The array in a stream of `size` bytes, or the dict in a zero-dimensional object array."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = header(file)
    except _HEADER_ERRORS as error:
        raise ValueError(f"{where}: expected a header of the .npy format, version 1 or 2: {error}") from error
    if dtype.hasobject and pickled and shape == ():
        return _unpickle(file, where)
    if dtype.kind not in "biuf":
        raise ValueError(f"{where}: expected an array of numbers, got {dtype} {shape}")
    declared, available = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared != available or declared > MAX_BYTES or min(shape, default=0) < 0:
        raise ValueError(f"{where}: {dtype} {shape}: expected {declared} bytes, got {available}")
    content = file.read(declared)
    if len(content) != declared:
        raise ValueError(f"{where}: {dtype} {shape}: expected {declared} bytes, got {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _unpickle(file: IO[bytes], where: str) -> dict[str, Any]:
    """The dict in a pickled zero-dimensional object array."""
    try:
        value = _RestrictedUnpickler(file).load()
    except Exception as error:  # a damaged pickle may raise any exception
        raise ValueError(f"{where}: pickle rejected: {error}") from error
    content = value.content if isinstance(value, _Array) else value
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected a dict in the object array, got {type(content).__name__}")
    return {str(key): entry.content if isinstance(entry, _Array) else entry for key, entry in content.items()}


class _RestrictedUnpickler(pickle.Unpickler):
    """Resolves the globals that pickled numpy arrays need to its own methods, and rejects all others."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global of numpy; raises ValueError for any other."""
        match module.replace("numpy._core", "numpy.core"), name:
            case "numpy.core.multiarray", "_reconstruct":
                return self._array
            case "numpy.core.multiarray", "scalar":
                return self._scalar
            case "numpy", "dtype":
                return self._dtype
            case "numpy", "ndarray":
                return "ndarray"  # only an argument of _reconstruct
        raise ValueError(f"expected numpy arrays, dicts, lists, tuples, strings and numbers only, got {module}.{name}")

    def _array(self, *_: Any) -> _Array:
        """Stand-in for `numpy.core.multiarray._reconstruct`."""
        return _Array()

    def _dtype(self, code: str, *_: Any) -> _Dtype:
        """Stand-in for `numpy.dtype`."""
        return _Dtype(code)

    def _scalar(self, dtype: _Dtype, content: bytes) -> Any:
        """Stand-in for `numpy.core.multiarray.scalar`."""
        return np.frombuffer(content, dtype.as_numeric)[0]


class _Array:
    """Placeholder of a pickled array, which is created empty and then receives its state."""

    __slots__ = ("content",)

    def __init__(self) -> None:
        self.content: Any = None

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, Any]) -> None:
        _, shape, dtype, is_fortran, content = state
        if not dtype.is_object:
            self.content = np.frombuffer(content, dtype.as_numeric).reshape(shape, order="F" if is_fortran else "C")
        elif shape == ():
            (self.content,) = content
        else:
            raise ValueError(f"expected a zero-dimensional object array, got shape {shape}")


class _Dtype:
    """Placeholder of a pickled dtype, which is created from its code and then receives its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    @property
    def is_object(self) -> bool:
        """Whether it is the dtype of object arrays."""
        return self.code in ("O", "O8")

    @property
    def as_numeric(self) -> np.dtype[Any]:
        """The numpy dtype; raises ValueError unless it is numeric."""
        if not _NUMERIC_CODE.fullmatch(self.code) or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"expected a numeric dtype, got {self.order}{self.code}")
        return np.dtype(self.order + self.code)
