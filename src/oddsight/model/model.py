"""A trained model: one ONNX file, and what can be asked of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.data.collection import merged
from oddsight.data.decoding import image_timeout
from oddsight.data.opening import MAX_PIXELS, check_sides
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError, ImageError, ModelError, without_traceback
from oddsight.model.calibration import Decision, decide, decide_by_class
from oddsight.model.curves import Epoch
from oddsight.model.file import ModelFile, parse_model, read_model_file
from oddsight.model.footage import Footage
from oddsight.model.interpreting import interpret
from oddsight.model.metadata import KEY, Metadata, checked_verdicts
from oddsight.model.result import VERDICTS, Result, score_where, shares
from oddsight.model.sections import DecisionInfo
from oddsight.runtime.bounds import check_number, check_whole
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.files import write_bytes
from oddsight.runtime.parallel import cores
from oddsight.runtime.sessions import run, session
from oddsight.sources.frame import Frame, ImageLike, as_frame
from oddsight.sources.source import ImagesLike, as_source, known_length

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Model:
    """A trained, calibrated model. Its scores come from running the graph of the model file.

    Get one from :func:`oddsight.fit` or :func:`oddsight.load`.
    """

    def __init__(self, file: ModelFile) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Callable[[bytes], Self], tuple[bytes]]:
        """Sent to another process as its file's bytes."""
        return type(self).from_bytes, (self._file.content,)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model file.

        Raises:
            ModelError: It is not a valid Oddsight model.
        """
        return cls(read_model_file(path))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read the bytes of a model file; see :meth:`load`."""
        return cls(parse_model(content))

    def to_bytes(self) -> bytes:
        """The model file's bytes."""
        return self._file.content

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, all at once or not at all.

        Raises:
            OddsightError: The file cannot be written.
        """
        write_bytes(path, self._file.content)

    @property
    def metadata(self) -> Metadata:
        """The metadata of the file."""
        return self._file.metadata

    @property
    def reading(self) -> Reading:
        """How TIFF files were read in training, and are read by default."""
        info = self.metadata.reading
        return AS_DECLARED if info is None else info.to_reading()

    @property
    def calibration_scores(self) -> NDArray[np.float32]:
        """Scores of the calibration images, ascending ``[n]``."""
        return self._file.calibration

    @property
    def calibration_classes(self) -> NDArray[np.int64] | None:
        """The predicted classes of the calibration images ``[n]``, if each class has its own calibration."""
        return self._file.calibration_classes

    @property
    def fewest(self) -> int:
        """Number of calibration images, or groups, behind a rate: all, or the fewest of a class if each has its own."""
        return self._file.fewest

    @property
    def decision(self) -> Decision:
        """The threshold, and the rate it was chosen for."""
        return Decision(**self.metadata.decision.model_dump())

    def with_decision(
        self,
        *,
        false_alarm_rate: float | None = None,
        threshold: float | None = None,
        confidence: float | None = None,
    ) -> Self:
        """The same model with another threshold. Its graph, scores and p-values stay the same.

        Example:
            >>> model = oddsight.load("parts.onnx")
            >>> model.with_decision(false_alarm_rate=0.2).decision.false_alarm_rate
            0.2

        Args:
            false_alarm_rate: The share of normal images that may be flagged, or
            threshold: a raw score, set by hand.
            confidence: With a rate: the share of draws of calibration images in which the true rate is at most that;
                see :func:`oddsight.model.calibration.decide`. By default the rate holds on average.

        Raises:
            DataError: Neither or both are given, a threshold has a confidence, or the rate needs more calibration
                images.
        """
        if (false_alarm_rate is None) == (threshold is None):
            raise DataError("give either a false-alarm rate or a threshold")
        if threshold is not None:
            check_number(threshold, "the threshold")
        if false_alarm_rate is not None and not self.metadata.calibration.held_out:
            raise DataError(
                "the model was fitted on one image, so no false-alarm rate can be promised: fit it on more, or set a "
                "threshold by hand"
            )
        if threshold is not None and confidence is not None:
            raise DataError("a threshold set by hand has no confidence: give a false-alarm rate instead")
        known = self.metadata.classes
        # First the classes, which need more images: what they say is enough is enough for all.
        thresholds = self._class_thresholds(known.names, false_alarm_rate, confidence) if known is not None else None
        if false_alarm_rate is not None:
            what = self.metadata.calibration.what
            decision = decide(self.calibration_scores, false_alarm_rate, confidence, what=what)
        else:
            decision = Decision(float(threshold), None)  # type: ignore[arg-type]
            if not np.isfinite(decision.threshold):
                raise DataError("the threshold must be a finite number")
        info = DecisionInfo(**asdict(decision))
        metadata = self.metadata.model_copy(update={"decision": info})
        if known is not None:
            metadata = metadata.model_copy(update={"classes": known.model_copy(update={"thresholds": thresholds})})
        return self._saying(metadata)

    @property
    def curves(self) -> tuple[Epoch, ...]:
        """Learning curves of the network that the method trained, one row per epoch; empty if it trained none."""
        return tuple(Epoch(**row.model_dump(), seconds=0.0) for row in self.metadata.training.curves)

    @property
    def verdicts(self) -> tuple[str, str]:
        """The words for normal and anomalous images, unless the model knows classes."""
        return self.metadata.verdicts or VERDICTS

    def with_verdicts(self, normal: str, anomalous: str) -> Self:
        """The same model with other words for normal and anomalous images; nothing else changes.

        Raises:
            DataError: These are not two different words of at most 40 printable characters, the model knows classes,
                which are its verdicts, or it is of schema 1, which cannot store words.
        """
        words = checked_verdicts((normal, anomalous))
        if self.metadata.classes is not None:
            raise DataError("this model knows classes, which are its verdicts: it takes no other words for them")
        if self.metadata.explanation is None:
            raise DataError("a model file of schema 1 cannot keep words for verdicts: fit the model again")
        return self._saying(self.metadata.model_copy(update={"verdicts": words if words != VERDICTS else None}))

    @property
    def footage(self) -> Footage | None:
        """Scores of normal footage that alarms are calibrated on; None if it has none.

        Raises:
            ModelError: They are damaged.
        """
        info = self.metadata.footage
        return None if info is None else Footage.from_info(info)

    def with_footage(self, footage: Footage | None) -> Self:
        """The same model with scores of other normal footage, or of none; nothing else changes.

        Raises:
            DataError: It is of schema 1, which cannot keep footage.
        """
        if self.metadata.explanation is None:
            raise DataError("a model file of schema 1 cannot keep footage: fit the model again")
        info = None if footage is None else footage.to_info()
        return self._saying(self.metadata.model_copy(update={"footage": info}))

    def _saying(self, metadata: Metadata) -> Self:
        """The same graph with other metadata."""
        proto = onnx.load_model_from_string(self._file.content)
        for entry in proto.metadata_props:
            if entry.key == KEY:
                entry.value = metadata.at_lowest_version().to_json()
        return self.from_bytes(proto.SerializeToString(deterministic=True))

    @property
    def true_rate_range(self) -> tuple[float, float] | None:
        """The range of the true false-alarm rate in 95 of 100 draws of calibration images.

        The threshold, and with it the true rate, depends on the calibration images that were drawn; see
        :func:`oddsight.model.calibration.rate_range`. If each class has its own calibration, it is the range of the
        rarest class. None for a threshold that was set by hand.
        """
        return self._file.true_rate_range

    def _class_thresholds(
        self, names: Sequence[str], rate: float | None, confidence: float | None
    ) -> list[float] | None:
        classes = self._file.calibration_classes
        if classes is None or rate is None:
            return None
        what = self.metadata.calibration.what
        return list(decide_by_class(self.calibration_scores, classes, names, rate, confidence, what=what))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the model knows; empty if it only knows what is normal."""
        return tuple(self.metadata.classes.names) if self.metadata.classes is not None else ()

    @property
    def types(self) -> tuple[str, ...]:
        """Names of the types of anomalies that the model knows; empty if it names none."""
        return tuple(self.metadata.types.classes.names) if self.metadata.types is not None else ()

    @property
    def images_seen(self) -> str:
        """The images that the model was fitted on, packed as :func:`oddsight.data.collection.seen` takes them."""
        seen, types = self.metadata.training.images_seen, self.metadata.types
        return seen if types is None else merged(seen, types.training.images_seen)

    @property
    def by_class(self) -> bool:
        """Whether p-values are among images of the same predicted class, instead of among all."""
        return self._file.calibration_classes is not None

    def threshold_for(self, label: int | None) -> float:
        """The threshold for images that are predicted as this class."""
        return self._file.threshold_for(label)

    def predict(
        self, image: ImageLike | Frame, *, reading: Reading | None = None, max_pixels: int = MAX_PIXELS
    ) -> Result:
        """Score one image.

        Example:
            >>> model = oddsight.load("parts.onnx")
            >>> result = model.predict("new/0001.png")
            >>> result.anomalous, result.p_value
            (True, 0.04)

        Args:
            image: A path, an array, a Pillow image or a frame of a source.
            reading: Bands and scale of a TIFF file, instead of those that the model was trained with.
            max_pixels: As for :func:`oddsight.data.images.read_image`.

        Raises:
            ImageError: The image cannot be read, or the model's output for it is out of range; see :meth:`score`.
        """
        return self._score_frame(as_frame(image), reading=reading, max_pixels=max_pixels, one_core=False)

    def predict_many(
        self,
        images: ImagesLike,
        *,
        reading: Reading | None = None,
        max_pixels: int = MAX_PIXELS,
        workers: int | None = None,
    ) -> Iterator[Result | ImageError]:
        """Score images on all cores, in order and with bounded memory; arguments as for :meth:`predict`.

        An image that cannot be read or scored yields its error in its place; the others are scored.

        Example:
            >>> model = oddsight.load("parts.onnx")
            >>> [result.verdict for result in model.predict_many(["test/good/0000.png", "new/0001.png"])]
            ['normal', 'anomalous']

        Args:
            images: Paths, arrays and Pillow images, in a list or any iterable; an array ``[N, H, W, C]``; one image; or
                a :class:`oddsight.Source`.
            reading: As for :meth:`predict`.
            max_pixels: As for :meth:`predict`.
            workers: Number of images that are scored in parallel; by default the number of processors.

        Raises:
            OddsightError: These are not images, or the number of workers is invalid.
        """
        if workers is not None:
            check_whole(workers, "the number of workers", 1, 1024)
        source = as_source(images)
        count = known_length(source)
        few = workers is None and count is not None and count <= cores()
        attempt = partial(self._attempt, reading=reading, max_pixels=max_pixels, one_core=not few)
        return map_jobs(attempt, source, workers=1 if few else workers)

    def score(
        self,
        pixels: NDArray[np.uint8],
        *,
        valid: NDArray[np.bool_] | None = None,
        source: str | None = None,
        one_core: bool = False,
    ) -> Result:
        """Score an image that is already decoded.

        Args:
            pixels: uint8 ``[H, W, 3]``, RGB.
            valid: Which pixels have data, ``[H, W]``; None if all do. If the model has a map, the score is the highest
                value where there is data, and the rest of the map is below everything.
            source: The image's path, for the result.
            one_core: Use one core only, which is better if several threads call this at once.

        Raises:
            ImageError: A side is too long, scoring takes longer than :func:`oddsight.set_image_limits` allows, the
                graph fails, or an output is out of range: a score that is not one finite number, a p-value that does
                not follow from it, or a map of another size.
        """
        name = source or "an array"
        height, width, _ = pixels.shape
        check_sides(width, height, name)
        values = self._run(pixels, name, one_core=one_core)
        result = interpret(self._file, values, width=width, height=height, source=source, name=name)
        if valid is None or valid.all() or result.map is None:
            return result
        there = shares(valid, result.map.shape) > 0.5
        return score_where(result, result.map, there, self.decision.threshold, self.calibration_scores)

    def _score_frame(self, frame: Frame, *, reading: Reading | None, max_pixels: int, one_core: bool) -> Result:
        pixels, valid = frame.read_valid(self.reading.override(reading), max_pixels=max_pixels)
        result = self.score(pixels, valid=valid, source=frame.name, one_core=one_core)
        return replace(result, time=frame.time, index=frame.index)

    def _run(self, pixels: NDArray[np.uint8], name: str, *, one_core: bool) -> dict[str, Any]:
        """The outputs of the graph by name, as they are."""
        loaded = self._session_for_many if one_core else self._session
        names = [output.name for output in loaded.get_outputs()]
        try:
            return dict(zip(names, run(loaded, {"image": pixels[None]}, "it", seconds=image_timeout()), strict=True))
        except ModelError as error:
            # Without its traceback, which would hold on to the pixels.
            raise ImageError(name, str(error)) from None

    def _attempt(
        self, frame: Frame | ImageError, *, reading: Reading | None, max_pixels: int, one_core: bool
    ) -> Result | ImageError:
        if isinstance(frame, ImageError):
            return frame
        try:
            return self._score_frame(frame, reading=reading, max_pixels=max_pixels, one_core=one_core)
        except ImageError as error:
            return without_traceback(error)

    @cached_property
    def _session(self) -> InferenceSession:
        return session(self._file.content, threads=cores())

    @cached_property
    def _session_for_many(self) -> InferenceSession:
        # One core an image beats every core on one image when there are many.
        return session(self._file.content, threads=1)


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model file; see :meth:`Model.load`.

    Example:
        >>> model = oddsight.load("parts.onnx")
        >>> model.metadata.method.name
        'knn'
    """
    return Model.load(path)
