"""Made-up scenes and a made-up study of clouds for tests."""

from __future__ import annotations

import numpy as np
from PIL import Image

from oddsight.drawing.image_grids import CaptionedImage
from oddsight.studies.clouds.results import CloudStudy, Failure, Measurement, ShippedScenes, SplitRow, Trivial
from oddsight.studies.clouds.scenes import CLEAR, SceneFacts, Side
from textures import texture

GROUNDS = {"sand": (190, 160, 110), "sea": (30, 60, 120)}


def scene(kind, seed, side=24):
    """A scene uint8 ``[side, side, 3]``: ground of one colour with some texture, white with soft edges if cloudy."""
    random = np.random.default_rng([seed, len(kind)])
    colour = np.array(GROUNDS.get(kind, GROUNDS["sand"]), float)
    values = colour + random.normal(0, 12, (side, side, 3)) + random.normal(0, 8, 3)
    if kind == "cloudy":
        grain = texture(seed, side, side).astype(float).mean(axis=2, keepdims=True) / 255
        values = 150 + 90 * grain + random.normal(0, 5, (side, side, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def write_scenes(folder, counts, side=24):
    """Class folders: ``counts`` images each, PNG."""
    for kind, count in counts.items():
        (folder / kind).mkdir(parents=True)
        for seed in range(count):
            Image.fromarray(scene(kind, seed, side)).save(folder / kind / f"{seed:03}.png")
    return folder


def scores(random, count, centre):
    return random.normal(centre, 1, count).astype(np.float32)


def made_up_clouds(
    *,
    apart=4.0,
    trivial=1.0,
    methods=("auto", "knn"),
    seeds=(0, 1),
    images=60,
    calibration=120,
    failed=(),
    default="auto",
    names=("cloudy", "sand", "sea"),
    limit=None,
    errors=(),
    shift=0.0,
):
    """A study of two sides; anomalies score ``apart`` standard deviations higher, and by trivial measures ``trivial``.

    ``shift`` makes normal test scenes score higher than calibration scenes did.
    """
    clouds, *grounds = names
    sides = (
        Side(clouds, (clouds,), tuple(grounds), (clouds, CLEAR)),
        Side(CLEAR, tuple(grounds), (clouds,), (CLEAR, clouds)),
    )
    random = np.random.default_rng(0)
    measured, trivials, splits = [], [], []
    for side in sides:
        for seed in seeds:
            for role, count in (("training", 360), ("calibration", calibration), ("normal test", images)):
                own = [SplitRow(side.name, seed, name, role, count // len(side.normal)) for name in side.normal]
                splits += own
            splits += [SplitRow(side.name, seed, name, "anomalous test", images) for name in side.anomalous]
            for place, method in enumerate(methods):
                measured.append(
                    Measurement(
                        method=method,
                        side=side.name,
                        seed=seed,
                        calibration=np.sort(scores(random, calibration, 5)),
                        training=scores(random, 360, 4.5) if method == default else None,
                        normal=scores(random, images, 5 + shift),
                        anomalous={name: scores(random, images, 5 + apart - 0.5 * place) for name in side.anomalous},
                        seconds=3.5 + place,
                        milliseconds=12.5,
                        bytes=3_400_000,
                        curves=(),
                    )
                )
            for name in ("brightness", "saturation"):
                values = {kind: random.normal(trivial, 1, images) for kind in side.anomalous}
                trivials.append(Trivial(name, side.name, seed, random.normal(0, 1, images), values))
    image = CaptionedImage(scene("sand", 0, 8), f"{grounds[0]}\nsaid {clouds}, p 0.5")
    shipped = [next(one for one in measured if (one.side, one.method) == (side.name, default)) for side in sides]
    return CloudStudy(
        data=SceneFacts(
            classes=dict.fromkeys(names, 600),
            size=64,
            found=dict.fromkeys(names, 603),
            duplicates=dict.fromkeys(names, 3),
            shared=2,
            sizes={name: {(64, 64) if name == names[-1] else (256, 256): 603} for name in names},
            errors=tuple(errors),
        ),
        clouds=clouds,
        limit=limit,
        examples={name: (CaptionedImage(scene("sea", place, 8)),) for place, name in enumerate(names)},
        sides=sides,
        splits=tuple(splits),
        measured=tuple(measured),
        failed=tuple(Failure(name, side.name, 0, reason) for name, reason in failed for side in sides),
        trivial=tuple(trivials),
        default=default,
        compared=(default,),
        hand=0.02,
        rate=0.05,
        shipped=tuple(
            ShippedScenes(
                file=f"{one.side}.onnx",
                side=one.side,
                seed=0,
                bytes=one.bytes,
                rate=0.05,
                threshold=float(np.sort(one.calibration)[-6]),
                verdicts=side.verdicts,
                calibration=len(one.calibration),
                normal=one.normal,
                anomalous=one.anomalous,
                difference=0.0,
                missed=(image,),
                alarms=(),
                caught=(image, image),
                passed=(image,),
            )
            for one, side in zip(shipped, sides, strict=True)
        ),
        command="oddsight study clouds --data DATA -o OUT",
        machine={"processor": "a processor", "cores": "2"},
        seconds={"learning": 30.0},
    )
