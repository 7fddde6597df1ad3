"""Results for people: tables and sentences on the terminal, and JSON files."""

from __future__ import annotations

import json as jsonlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from oddsight.data.collection import ImageFile, count_groups, unpacked
from oddsight.drawing.numbers import percent
from oddsight.errors import DataError, plain, some
from oddsight.model.calibration import advised_rate, smallest_rate
from oddsight.runtime.files import write_bytes
from oddsight.sinks.terminal import complain, console, note, table

if TYPE_CHECKING:
    from oddsight.backbones import Backbone
    from oddsight.backbones.catalogue import Offer
    from oddsight.backbones.description import Description
    from oddsight.fitting.class_learner import ClassPlan
    from oddsight.fitting.plan import FitPlan
    from oddsight.model.file import ModelFile
    from oddsight.model.footage import Footage
    from oddsight.model.model import Model
    from oddsight.model.normals import NormalImages


class Jsonable(Protocol):
    """Results that say themselves as JSON."""

    def to_json(self) -> dict[str, Any]:
        """Their content."""
        ...


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401
    """Write JSON to a file, or to standard output for ``-``."""
    text = jsonlib.dumps(content, indent=2, allow_nan=False) + "\n"
    if str(path) == "-":
        console.file.write(text)
    else:
        write_bytes(path, text.encode())


def print_or_show(content: Any, json: bool, show: Callable[[Any], None]) -> None:  # noqa: ANN401
    """Print content as JSON if that is asked for, or else show it."""
    if json:
        write_json(Path("-"), content)
    else:
        show(content)


def give_results(found: Jsonable, json: Path | None, show: Callable[[], None]) -> None:
    """Write results as JSON where that is asked for, and show them unless that takes standard output."""
    if json is not None:
        write_json(json, found.to_json())
    if json is None or str(json) != "-":
        show()


def normals_beside(model: Path) -> NormalImages | None:
    """The small copies of normal images beside a model file; if they are damaged, a complaint and None."""
    from oddsight.model.normals import NormalImages

    try:
        return NormalImages.beside(model)
    except DataError as error:
        complain(error)
        return None


def say_images(plan: FitPlan, quiet: bool) -> None:
    """Say which images a fit uses, and complain of what it cannot read."""
    for error in plan.errors:
        complain(error)
    if plan.errors:
        note(f"{len(plan.errors):,} files could not be read and are left out", quiet=quiet)
    if plan.duplicates:
        note(f"{plan.duplicates:,} duplicates are used once", quiet=quiet)
    say_groups(plan.images, quiet, near_copies=plan.request.near_copies)
    if plan.adapted:
        note(
            f"the backbone was adapted to {plan.adapted:,} of the calibration images, so the false-alarm rate is not "
            "guaranteed: calibrate on others, or test the rate on new normal images",
            quiet=quiet,
        )


def say_plan(plan: FitPlan, quiet: bool) -> None:
    """Say what a fit is about to do, and complain of what it cannot read."""
    say_images(plan, quiet)
    note(f"learning from {len(plan.training):,} images, calibrating on {_calibration(plan)}", quiet=quiet)
    if plan.copied:
        note(
            "as there are so few images, changed copies are learned from, too: lighter and darker ones, and mirrored "
            "and turned ones if these resemble the images",
            quiet=quiet,
        )
    note(f"memory budget {plan.memory}", quiet=quiet)


def say_labelled_plan(plan: ClassPlan, quiet: bool) -> None:
    """Say what a fit to labelled images is about to do, and complain of what it cannot read."""
    say_images(plan, quiet)
    parts = plan.parts
    note(f"{len(parts.training.classes)} classes: {some(parts.training.classes)}", quiet=quiet)
    fitting = f", fitting probabilities on {len(parts.validation):,}" if len(parts.validation) else ""
    note(f"learning from {len(parts.training):,} images{fitting} and calibrating on {_calibration(plan)}", quiet=quiet)


def _calibration(plan: FitPlan) -> str:
    """What a fit calibrates on, in words."""
    groups = f"one of each of {plan.groups:,} groups of " if plan.groups is not None else ""
    return groups + (f"{plan.held:,} others" if plan.kind == "split" else "the same by cross-conformal folds")


def say_groups(images: Sequence[ImageFile], quiet: bool, *, near_copies: bool) -> None:
    """Say which images belong together, if any do."""
    sizes = Counter(image.group for image in images if image.group)
    groups = count_groups(images)
    if groups == len(images):
        return
    if not near_copies:
        note(f"{len(images):,} images form {groups:,} groups: calibration counts groups", quiet=quiet)
        return
    first = next(image for image in images if image.group)
    second = next(image for image in images if image.group == first.group and image is not first)
    note(
        f"{sizes.total():,} of {len(images):,} images are near copies of others, such as {first.path.name} and "
        f"{second.path.name}: all images form {groups:,} groups, which stay together, and calibration "
        "counts groups (--group-by names groups, --group-by none counts images)",
        quiet=quiet,
    )


def say_fitted(model: Model, path: Path, copies: Path | None, quiet: bool) -> None:
    """Say what was written: the model, and perhaps small copies of normal images."""
    beside = f" and {copies} ({copies.stat().st_size / 1e6:.1f} MB)" if copies is not None else ""
    note(f"wrote {path} ({len(model.to_bytes()) / 1e6:.1f} MB){beside}", quiet=quiet)
    _say_rate(model, quiet)
    _say_types(model, quiet)


def say_decision(model: Model, path: Path, quiet: bool) -> None:
    """Say what a changed model does."""
    note(f"wrote {path}", quiet=quiet)
    _say_rate(model, quiet)


def _say_types(model: Model, quiet: bool) -> None:
    """Say what a model promises of the types that it names, and what both of its decisions mean together."""
    types = model.metadata.types
    if types is None:
        return
    count = types.calibration.scores
    note(f"names {len(types.classes.names)} types of anomalies: {some(types.classes.names)}", quiet=quiet)
    note(
        f"flags {types.flagged:,} of the {count:,} anomalies of these types that it was calibrated on; this share is "
        "measured, not promised",
        quiet=quiet,
    )
    if types.decision.false_alarm_rate is None:
        return
    note(
        f"says of at most {percent(types.decision.false_alarm_rate)} of anomalies of these types that their type is "
        "unknown; it names a type for no more normal images than it flags",
        quiet=quiet,
    )


def _say_rate(model: Model, quiet: bool) -> None:
    decision, known = model.decision, model.metadata.classes
    verb = "flags" if known is None else "rejects"
    if decision.false_alarm_rate is None:
        promising = model.metadata.calibration.held_out
        why = "set by hand" if promising else "without a promised rate: one image leaves none to calibrate on"
        note(f"{verb} scores above {decision.threshold:.6g}, {why}", quiet=quiet)
        return
    whose = "normal images" if known is None else "images of the known classes"
    above, images = f"{decision.threshold:.6g}", model.metadata.calibration.what
    if known is not None and known.thresholds is not None:
        whose = "the images predicted as each class"
        above = f"{min(known.thresholds):.6g} to {max(known.thresholds):.6g}, by the class"
        images += " of the rarest class"
    possible = advised_rate(model.fewest, decision.confidence)
    # What is advised is rounded up: the smallest rate itself lies a little below.
    smallest = "this is" if decision.false_alarm_rate <= possible else f"{percent(possible)} is"
    least = f"with {model.fewest:,} {images} {smallest} the smallest possible"
    rate = f"{verb} at most {percent(decision.false_alarm_rate)} of {whose}"
    if decision.confidence is not None:
        rate += f", with a confidence of {percent(decision.confidence)}"
    note(f"{rate}: scores above {above}; {least}", quiet=quiet)
    low, high = model.true_rate_range or (0.0, 1.0)
    note(
        f"the true rate depends on the draw of {images}: it lies between {percent(low)} and {percent(high)} in 95 "
        "of 100 draws",
        quiet=quiet,
    )


def describe_footage(footage: Footage) -> dict[str, Any]:
    """How much normal footage there is, and for how few alarms an hour it is enough."""
    return {
        "zones": list(footage.scores),
        "frames": len(footage.times),
        "interval": footage.interval,
        "blocks": footage.blocks,
        "block": footage.block,
        "hours": footage.hours,
        "fewest_alarms_per_hour": 3600 / footage.block / (footage.blocks + 1),
    }


def describe_model(file: ModelFile) -> dict[str, Any]:
    """Everything a model file says about itself, and its sizes."""
    content: dict[str, Any] = file.metadata.model_dump(mode="json")
    scores = file.calibration
    content["training"]["images_recognised"] = len(unpacked(content["training"].pop("images_seen")))
    if file.metadata.explanation is not None:
        packed = content["explanation"].pop("normals")
        content["explanation"] = {"images": len(unpacked(packed)), **content["explanation"]}
    content["calibration"] |= {
        "smallest_rate": smallest_rate(file.fewest, file.metadata.decision.confidence)
        if file.metadata.calibration.held_out
        else None,
        "scores": {
            "min": float(scores[0]),
            "median": float(scores[len(scores) // 2]),
            "max": float(scores[-1]),
        },
    }
    if file.metadata.footage is not None:
        from oddsight.model.footage import Footage

        content["footage"] = describe_footage(Footage.from_info(file.metadata.footage))
    if file.true_rate_range is not None:
        content["decision"]["true_rate_range_95"] = list(file.true_rate_range)
    for name in ("verdicts", "reading", "conversion", "types"):
        if content[name] is None:
            del content[name]
    if "types" in content:
        training = content["types"]["training"]
        training["images_recognised"] = len(unpacked(training.pop("images_seen")))
    content["bytes"] = len(file.content)
    return content


def show_model(described: dict[str, Any]) -> None:
    """Show what :func:`describe_model` returns."""
    rows = table("", "")
    rows.show_header = False
    for name, value in _flat(described):
        rows.add_row(plain(name), plain(value))
    console.print(rows)


def _flat(content: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in content.items():
        label = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            rows += _flat(value, f"{label} / ")
        else:
            rows.append((label, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


def method_rows() -> list[dict[str, Any]]:
    """The registry of methods as rows, the default first."""
    from oddsight.detectors import DEFAULTS, METHODS

    return [
        {
            "method": name,
            "reads": cls.reads,
            "localises": cls.localises,
            "needs": f"oddsight[{cls.needs}]" if cls.needs else "",
            "default": name == DEFAULTS["normal"],
            "what": cls.summary,
            "paper": cls.paper,
        }
        for name, cls in sorted(METHODS.items(), key=lambda item: (item[0] != DEFAULTS["normal"], item[0]))
    ]


def score_rows() -> list[dict[str, Any]]:
    """The registry of scores as rows, the default first."""
    from oddsight.detectors import DEFAULTS, create, names

    found = [create(name, "classes") for name in names("classes")]
    rows = [
        {"score": one.name, "default": one.name == DEFAULTS["classes"], "what": one.summary, "paper": one.paper}
        for one in found
    ]
    return sorted(rows, key=lambda row: not row["default"])


def backbone_rows() -> list[dict[str, Any]]:
    """The backbones as rows: those that ship, those exported here, and those that can be."""
    from oddsight.backbones import BACKBONES
    from oddsight.backbones.catalogue import CATALOGUE, TIMM
    from oddsight.backbones.exports import kept_exports

    unknown = "listed once exported"
    needs = "exported when first used, which needs: pip install 'oddsight[train]'"
    exports = {name: found.described for name, found in kept_exports()}
    rows = [_backbone_row(backbone, "ships with Oddsight") for backbone in BACKBONES.values()]
    for name, offer in CATALOGUE.items():
        rows.append(_backbone_row(exports[name], "exported") if name in exports else _backbone_row(offer, needs))
    rows += [_backbone_row(described, "exported") for name, described in exports.items() if name not in CATALOGUE]
    any_timm = {"backbone": f"{TIMM}NAME", "status": needs, "size": unknown, "layers": unknown}
    own = {"backbone": "FILE.onnx", "status": "a file of your own", "size": "its own", "layers": "its outputs"}
    return [
        *rows,
        any_timm | {"what": "any network of timm", "weights": "timm's; licences vary", "paper": "see timm"},
        own | {"what": "float32 [N, 3, S, S] from 0 to 255, to feature maps", "weights": "yours", "paper": "yours"},
    ]


def _backbone_row(known: Backbone | Description | Offer, status: str) -> dict[str, Any]:
    stages = getattr(known, "stages", ())
    layers = "listed once exported"
    if isinstance(stages, Mapping):
        layers = ", ".join(f"{name} ({c} channels, stride {s})" for name, (s, c) in stages.items())
    return {
        "backbone": known.name,
        "status": status,
        "size": getattr(known, "size", layers),
        "layers": layers,
        "what": known.summary,
        "weights": known.source,
        "paper": known.paper,
    }


def show_rows(rows: list[dict[str, Any]]) -> None:
    """Show rows of a registry, one entry after the other."""
    for row in rows:
        title, *fields = row.items()
        console.print(plain(title[1]), style="bold")
        for name, value in fields:
            text = ("no", "yes")[value] if isinstance(value, bool) else value
            console.print(f"  {name:10} {plain(text)}")
