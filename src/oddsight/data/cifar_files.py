"""CIFAR-10 as its authors publish it: the Python and the binary version, as a folder or as the archive.

Archives are read member by member in memory and never unpacked to disk.

The batches of the Python version are pickles, and a pickle is a program. Nothing of one runs here: every name that it
asks for is answered by a stand-in that only notes what it is given, any other name is refused, and the array is then
made from its bytes and checked. (NumPy's own functions for unpickling are not called either: they trust the file.)
"""

from __future__ import annotations

import io
import pickle
import pickletools
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from oddsight.data.class_images import ClassImages
from oddsight.data.stored import stored
from oddsight.data.zipped import Unzipped
from oddsight.errors import DataError, plain
from oddsight.runtime.progress import Progress, track

SIDE = 32  # The side of the images, in pixels

_VALUES = 3 * SIDE * SIDE
_TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
_PYTHON = {**{name: name for name in (*_TRAINING, "test_batch")}, "batches.meta": "classes"}
_BINARY = {**{f"{name}.bin": name for name in (*_TRAINING, "test_batch")}, "batches.meta.txt": "classes"}
_LARGEST = 2**26  # bytes of one file; an official one has half as many
_LARGEST_ARCHIVE = 2**28  # bytes that it unpacks to; an official one to 186 MB
_MOST_CLASSES = 256
_LONGEST_NAME = 200
_MOST_STEPS = 10**6  # of a pickle; an official one has some ten thousand

_SIMPLE = {
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "GLOBAL", "STACK_GLOBAL", "REDUCE", "EMPTY_LIST", "EMPTY_DICT"),
}
"""Steps of a pickle that make a value whose hash takes no time to speak of: the steps of an official one."""

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Rows of 3,072 values (red, green, blue), ``[N, 3072]``, and their labels."""


@dataclass(frozen=True)
class _Version:
    archive: str  # Its archive, without suffix
    folder: str  # The folder in that
    files: dict[str, str]  # What the files are, by name
    # Reads images and labels from the content of a file, which is called so in errors
    read_batch: Callable[[bytes, str], Batch]
    read_classes: Callable[[bytes, str], tuple[str, ...]]  # Reads the names of the classes, likewise

    def fits(self, path: Path) -> bool:
        """Whether the path is this version: its folder, the folder above it, or the archive."""
        return self._location(path) is not None

    def read(self, path: Path, progress: Progress) -> dict[str, ClassImages]:
        """Read both splits."""
        path = self._location(path) or path
        batches: dict[str, Batch] = {}
        classes: tuple[str, ...] = ()
        files = track(_contents(path, self.files), "reading", len(self.files), progress)
        for what, where, content in files:
            if what == "classes":
                classes = self.read_classes(content, where)
            else:
                batches[what] = self.read_batch(content, where)
        found = {*batches, *(["classes"] if classes else [])}
        missing = [name for name, what in self.files.items() if what not in found]
        if missing:
            raise DataError(f"{path} lacks {', '.join(missing)}: get CIFAR-10 again, or unpack all of it")
        return {
            split: _split({name: batches.pop(name) for name in names}, classes, path)
            for split, names in (("train", _TRAINING), ("test", ("test_batch",)))
        }

    def _location(self, path: Path) -> Path | None:
        """The folder with the files, or the archive of them."""
        if path.is_file():
            return path if self._is_in(path) else None
        for place in (path, path / self.folder):
            if any((place / name).is_file() for name in self.files):
                return place
        inside = path / f"{self.archive}.tar.gz"
        return inside if inside.is_file() and self._is_in(inside) else None

    def _is_in(self, archive: Path) -> bool:
        """Whether the first of CIFAR-10's files in an archive is one of these."""
        try:
            for name, _ in _archived(archive, {}):
                if name in _PYTHON or name in _BINARY:
                    return name in self.files
        except DataError:
            # Damaged, which reading will say; what it was meant to be shows in its name.
            return archive.name.startswith(self.archive)
        return False


def _archived(path: Path, wanted: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """The names, without folders, of the files in a tar archive, and what those that are wanted hold."""
    seen = set()
    try:
        with (
            Unzipped(path, _LARGEST_ARCHIVE) as file,
            tarfile.open(fileobj=cast("IO[bytes]", file), mode="r|") as archive,
        ):
            for member in archive:
                name = PurePosixPath(member.name).name
                if not member.isreg():
                    continue
                if name not in wanted:
                    yield name, b""
                    continue
                where = f"{path}: {name}"
                if name in seen:
                    raise DataError(f"{where} is there twice")
                seen.add(name)
                _admit(where, member.size)
                content = archive.extractfile(member)
                yield name, content.read() if content is not None else b""
            # The checksum comes after the end of the archive, behind some zeros.
            while file.read(2**20):
                pass
    except tarfile.ReadError as error:
        raise DataError(f"{path} is not a tar archive, or is damaged: {plain(str(error))}") from error
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RecursionError, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged: {plain(str(error))}") from error


def _contents(path: Path, known: dict[str, str]) -> Iterator[tuple[str, str, bytes]]:
    """What the known files are, where they are, and what they hold."""
    if path.is_dir():
        for name, what in known.items():
            if (path / name).is_file():
                _admit(str(path / name), (path / name).stat().st_size)
                yield what, str(path / name), (path / name).read_bytes()
    else:
        for name, content in _archived(path, known):
            if name in known:
                yield known[name], f"{path}: {name}", content


def _admit(where: str, size: int) -> None:
    if size > _LARGEST:
        raise DataError(f"{where} has {size / 1e6:,.0f} MB, and a file of CIFAR-10 has at most 31")


def _split(batches: dict[str, Batch], classes: tuple[str, ...], path: Path) -> ClassImages:
    pixels = np.empty((sum(len(labels) for _, labels in batches.values()), SIDE, SIDE, 3), np.uint8)
    names: list[str] = []
    for name, (values, labels) in batches.items():
        start = len(names)
        pixels[start : start + len(labels)] = values.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        names += [f"cifar-10/{name}/{number}" for number in range(len(labels))]
    try:
        return ClassImages(
            tuple(stored(pixels, names)), np.concatenate([labels for _, labels in batches.values()]), classes
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _binary_batch(content: bytes, where: str) -> Batch:
    if not content or len(content) % (1 + _VALUES):
        raise DataError(
            f"{where} is truncated or damaged: {len(content):,} bytes are not a number of records of {1 + _VALUES:,}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _VALUES)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _binary_classes(content: bytes, where: str) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in content.decode().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not text") from error
    return _at_least_two(names, where)


def _at_least_two(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    if len(names) < 2:
        raise DataError(f"{where} names fewer than two classes")
    return names


def _pickled_batch(content: bytes, where: str) -> Batch:
    held = _unpickled(content, where)
    data, labels = held.get("data"), held.get("labels")
    if not isinstance(data, _Array):
        raise DataError(f"{where} holds no array called data")
    values = data.values()
    if values is None or values.ndim != 2 or values.shape[1] != _VALUES or not len(values):
        raise DataError(f"{where}: its data are not rows of {_VALUES:,} bytes")
    if not isinstance(labels, list) or not all(type(label) is int and abs(label) < 2**31 for label in labels):
        raise DataError(f"{where}: its labels are not a list of whole numbers")
    if len(labels) != len(values):
        raise DataError(f"{where} holds {len(values):,} images but {len(labels):,} labels")
    return values, np.array(labels, np.int64)


def _pickled_classes(content: bytes, where: str) -> tuple[str, ...]:
    names = _unpickled(content, where).get("label_names")
    texts = [_text(name) for name in names] if isinstance(names, list) and len(names) <= _MOST_CLASSES else [None]
    if None in texts:
        raise DataError(f"{where}: its label_names are not a list of names")
    return _at_least_two(tuple(text for text in texts if text is not None), where)


def _text(value: object) -> str | None:
    """A name, in whichever way it is written; None if it is none."""
    if isinstance(value, _Encoded):
        value = value.arguments[0] if value.arguments else None
    if not isinstance(value, str | bytes) or len(value) > _LONGEST_NAME:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _unpickled(content: bytes, where: str) -> dict[str, Any]:
    """The dictionary in a pickle, by names as text; values are as the pickle has them."""
    try:
        _check_steps(content, where)
        found = _Reader(io.BytesIO(content), encoding="bytes").load()
    except DataError:
        raise
    except _UnknownNameError as error:
        raise DataError(f"{where} asks for {error}, which CIFAR-10 does not need; nothing in it was run") from error
    except MemoryError as error:
        raise DataError(f"{where} is damaged: it asks for more memory than there is") from error
    # Whatever a pickle that is cut or changed leads to: KeyError, IndexError, struct.error, UnpicklingError, ...
    except Exception as error:
        raise DataError(f"{where} is truncated or damaged: {plain(str(error))[:120]}") from error
    if not isinstance(found, dict):
        raise DataError(f"{where} holds no dictionary")
    return {name: value for written, value in found.items() if (name := _text(written)) is not None}


def _check_steps(content: bytes, where: str) -> None:
    """Refuse a pickle that would take for ever, or all memory.

    A value that is taken up again must be one that is made in a single step. A tuple of the same tuple twice, of that
    twice and so on, is short to write, and takes for ever as the name of a value.
    """
    notes: dict[int, bool] = {}
    before = ""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count > _MOST_STEPS:
            raise DataError(f"{where} is damaged: it takes more than {_MOST_STEPS:,} steps to read")
        name, number = opcode.name, argument if isinstance(argument, int) else len(notes)
        if name == "DUP" or ("GET" in name and not notes.get(number, True)):
            raise DataError(f"{where} is damaged: it uses a value again that is not text")
        if "PUT" in name or name == "MEMOIZE":
            # The place of a value is a number that the file chooses, and all places below it need memory.
            if number > len(content):
                raise DataError(f"{where} is damaged: a value has the number {number:,}")
            notes[number] = before in _SIMPLE
        before = name


class _UnknownNameError(Exception):
    """A pickle asks for what it has no business with."""


class _Noted:
    """Notes what a pickle calls it with, and does nothing else."""

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401
        self.arguments = arguments

    # As it exists, no attribute can be set from a pickle: not of an instance, and not of the class.
    def __setstate__(self, state: Any) -> None:  # noqa: ANN401
        self.state = state


class _ArrayType(_Noted):
    """In place of ``numpy.ndarray``."""


class _ElementType(_Noted):
    """In place of ``numpy.dtype``."""


class _Encoded(_Noted):
    """In place of ``_codecs.encode``, by which Python 3 writes bytes for Python 2."""

    def content(self) -> bytes:
        """The bytes."""
        text, codec = self.arguments
        if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
            raise ValueError("not encoded as bytes are")
        return text.encode("latin1")


class _Array(_Noted):
    """In place of NumPy's function that makes an empty array, whose state then follows."""

    def values(self) -> NDArray[np.uint8] | None:
        """The array, if it is one of unsigned bytes with as many as its shape says."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            return None
        _, shape, element, fortran, raw = self.state
        sides_are_numbers = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
        of_bytes = isinstance(element, _ElementType) and element.arguments[:1] in (("u1",), (b"u1",))
        if not (sides_are_numbers and of_bytes):
            return None
        try:
            if isinstance(raw, _Encoded):
                raw = raw.content()
            return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
        except (ValueError, TypeError, OverflowError):
            return None


class _Reader(pickle.Unpickler):
    """Reads the pickles of CIFAR-10."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """The stand-in for a name."""
        known = {
            ("numpy", "ndarray"): _ArrayType,
            ("numpy", "dtype"): _ElementType,
            ("numpy.core.multiarray", "_reconstruct"): _Array,
            ("numpy._core.multiarray", "_reconstruct"): _Array,
            ("_codecs", "encode"): _Encoded,
        }
        if (module, name) not in known:
            raise _UnknownNameError(plain(f"{module}.{name}")[:80])
        return known[module, name]


PYTHON_VERSION = _Version("cifar-10-python", "cifar-10-batches-py", _PYTHON, _pickled_batch, _pickled_classes)
BINARY_VERSION = _Version("cifar-10-binary", "cifar-10-batches-bin", _BINARY, _binary_batch, _binary_classes)
