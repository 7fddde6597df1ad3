"""The methods that learn normal: one file each, registered by :func:`method`.

A method declares what it reads, fits on a stream of features, and returns a graph from those features to ``score``
(and ``anomaly_map`` where it can say where). It knows nothing of files, batches, thresholds or reports.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.errors import MemoryBudgetError, OddsightError, plain
from oddsight.runtime.bounds import check_settings

Reading = Literal["patches", "embedding", "levels", "pixels"]


class FeatureStream(Protocol):
    """Features of images, one float32 array of ``shape`` per image; can be iterated several times.

    ``shape`` is ``[C, h, w]`` for patches, ``[3, S, S]`` for pixels and ``[C]`` for embeddings. For levels, whose
    arrays are flat, it is the width of each level's profile, then ``C, h, w`` of the patches that follow them.

    A stream may also say which images belong together, see :func:`groups_of`.
    """

    shape: tuple[int, ...]

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[NDArray[np.float32]]: ...


def groups_of(features: FeatureStream) -> NDArray[np.intp]:
    """For each image of a stream a number that it shares with its group, ``[n]``.

    Images of one group say little more than one of them: a method that holds images out holds out whole groups. It is
    the stream's ``groups``, if it has that, and otherwise each image stands alone.
    """
    return np.asarray(getattr(features, "groups", np.arange(len(features))), np.intp)


def stacked(features: FeatureStream) -> NDArray[np.float32]:
    """All features of a stream in one array, ``[n, ...]``."""
    rows = np.empty((len(features), *features.shape), np.float32)
    for row, one in zip(rows, features, strict=True):
        row[...] = one
    return rows


class Rows:
    """Vectors in memory, ``[n, C]``, as a stream of features."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self.shape = vectors.shape[1:]

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.vectors)


class Method(ABC):
    """A method. Subclasses are dataclasses; their fields are the settings, with their bounds.

    Attributes:
        name: The name for users.
        summary: What it measures, in one line.
        paper: Authors, title, venue and year.
        reads: ``patches`` ``[C, h, w]``; one ``embedding`` ``[C]`` per image; ``levels``, which are profiles of the
            image at several depths, and patches; or ``pixels`` ``[3, S, S]``, 0 to 255.
        localises: Whether its graph has an ``anomaly_map``.
        stride: For patches: side of a cell of the grid in pixels of the input.
        needs: The extra that fitting needs, such as ``train``; empty if none. Scoring never needs any.
        budget: The default memory budget of the whole process.
        size: The default side in pixels to which images are resized, if it is not the backbone's.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    reads: ClassVar[Reading]
    localises: ClassVar[bool]
    stride: ClassVar[int] = 8
    needs: ClassVar[str] = ""
    budget: ClassVar[str] = "1GB"
    size: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        """Refuse settings that are not within the bounds that their types declare; see :mod:`oddsight.runtime.bounds`.

        Raises:
            OddsightError: Naming the method, the setting, the value and what it may be.
        """
        if is_dataclass(self) and not isinstance(self, type):
            check_settings(self, owner=self.name)

    @abstractmethod
    def fit(self, features: FeatureStream, *, memory: int, seed: int) -> Self:
        """Fit the method on features of normal images.

        Args:
            features: Features of the training images.
            memory: Bytes that it may use, besides the features of one image.
            seed: Seed of every random choice.
        """

    @abstractmethod
    def graph(self) -> onnx.ModelProto:
        """The graph from the features named by ``reads``, ``[N, ...]``, to ``score`` ``[N]`` and ``anomaly_map``."""

    @abstractmethod
    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """The bytes that :meth:`fit` needs at least for ``count`` images with features of ``shape``."""

    def voices(self, layers: Sequence[str]) -> list[str]:
        """Names of the detectors inside the method; empty if it is a single detector.

        With voices, the graph also has the outputs ``evidence`` float32 ``[N, voices]`` (the highest decides) and
        ``voice_p_values`` ``[N, voices]``.

        Args:
            layers: The stages that the method reads.
        """
        return []

    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self) if is_dataclass(self) and not isinstance(self, type) else {}

    def require(self, memory: int, shape: tuple[int, ...], count: int) -> None:
        """Raise an error if the memory is too small.

        Raises:
            MemoryBudgetError: The memory is too small; the message says how much is needed.
        """
        needed = self.memory_needed(shape, count)
        if needed > memory:
            raise MemoryBudgetError(
                f"{self.name} takes {needed / 1e6:,.0f} MB for {count:,} images with features of "
                f"{' x '.join(map(str, shape))}, and the budget leaves {memory / 1e6:,.0f} MB: raise the memory "
                "budget, or use fewer images, fewer layers or a smaller size"
            )


METHODS: dict[str, type[Method]] = {}
"""The registry, by name."""

DEFAULT = "auto"

_Registered = TypeVar("_Registered", bound=type[Method])


def method(cls: _Registered) -> _Registered:
    """Register a method under its name."""
    METHODS[cls.name] = cls
    return cls


def quick() -> list[str]:
    """Names of the methods that train no network, so that learning needs nothing but Oddsight's core."""
    return [name for name, cls in METHODS.items() if not cls.needs]


def by_name(name: str) -> type[Method]:
    """Return the method of that name.

    Raises:
        OddsightError: There is no such method.
    """
    if name not in METHODS:
        raise OddsightError(f"no method {name!r}: there are {', '.join(METHODS)}")
    return METHODS[name]


def with_settings(name: str, assignments: Sequence[str]) -> Method:
    """The method of that name, with settings as they are written on a command line.

    Args:
        name: Of the method.
        assignments: ``NAME=VALUE``; a setting that is a list takes values separated by commas.

    Raises:
        OddsightError: If there is no such method or setting, or a value is not what the setting takes.
    """
    cls = by_name(name)
    known = {field.name: getattr(cls(), field.name) for field in fields(cls)}  # type: ignore[arg-type]
    values = {}
    for text in assignments:
        setting, equals, value = text.partition("=")
        if not equals or setting.strip() not in known:
            there = ", ".join(known) or "no settings"
            raise OddsightError(f"{name} has no setting {plain(text)!r}: write NAME=VALUE; there are {there}")
        values[setting.strip()] = _read(name, setting.strip(), value.strip(), known[setting.strip()])
    return cls(**values)


def _read(method: str, setting: str, text: str, default: object) -> object:
    """A value of the type of the default."""
    if isinstance(default, tuple):
        kind = type(default[0]) if default else str
        return tuple(_read(method, setting, one.strip(), kind()) for one in text.split(",") if one.strip())
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise OddsightError(f"{method}: {setting} must be true or false, not {plain(text)!r}")
        return text.lower() == "true"
    try:
        return text if isinstance(default, str) else type(default)(text)  # type: ignore[call-arg]
    except ValueError:
        what = "a whole number" if isinstance(default, int) else "a number"
        raise OddsightError(f"{method}: {setting} must be {what}, not {plain(text)!r}") from None


for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
