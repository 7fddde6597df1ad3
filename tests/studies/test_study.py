"""The study of known classes, small, from the command line to its report."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oddsight
from cli_files import run
from textures import texture

pytestmark = [pytest.mark.train, pytest.mark.slow]
pytest.importorskip("torch", reason="needs the train extra")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two materials, to learn and to test, and noise that is neither."""
    folder = tmp_path_factory.mktemp("data")
    for split, seeds in (("train", range(60)), ("test", range(100, 120))):
        for material in ("cloth", "bark"):
            (folder / "known" / split / material).mkdir(parents=True)
            for seed in seeds:
                image = Image.fromarray(texture(seed, 32, 32, material=material))
                image.save(folder / "known" / split / material / f"{seed}.png")
    (folder / "noise").mkdir()
    lots = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(lots.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / "noise" / f"{number}.png")
    return folder


def test_from_data_to_report_and_again_from_what_is_there(data, tmp_path):
    options = [
        *("study", "cifar10", "--data", data / "known", "-o", tmp_path / "out", "--far", f"noise={data / 'noise'}"),
        *(
            "--networks",
            "textbook,probe",
            "--ship",
            "probe",
            "--epochs",
            1,
            "--score",
            "energy",
            "--false-alarm-rate",
            0.2,
        ),
    ]
    done = run(*options)
    assert done.code == 0, done.err
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "ood.csv").open()))
    assert {row["unknown"] for row in rows} == {"noise"}
    assert "odin with gradient" in {row["score"] for row in rows if row["run"] == "textbook"}
    classified = {row["run"]: row for row in csv.DictReader((out / "classification.csv").open())}
    assert classified.keys() == {"textbook", "probe"}
    assert float(classified["probe"]["accuracy"]) > 0.9
    page = (out / "report.html").read_text()
    assert "noise" in page
    assert 'src="http' not in page
    # The numbers of the report are those of the file.
    model = oddsight.load(out / "probe-energy.onnx")
    assert model.classes == ("bark", "cloth")
    told = run(
        "evaluate",
        out / "probe-energy.onnx",
        "--labelled",
        data / "known",
        "--unknown",
        f"noise={data / 'noise'}",
        "--json",
        "-",
    )
    found = json.loads(told.out)
    assert found["accuracy"] == pytest.approx(float(classified["probe"]["accuracy"]))
    energy = next(row for row in rows if row["run"] == "probe" and row["score"] == "energy")
    assert found["unknown"]["noise"]["auroc"] == pytest.approx(float(energy["auroc"]), abs=1e-6)
    # Nothing is trained twice, and the tables are the same.
    before = {path.name: path.read_bytes() for path in out.glob("*.csv") if path.name != "shipped.csv"}
    checkpoint = (out / "work" / "textbook-0" / "checkpoint.safetensors").stat().st_mtime_ns
    again = run(*options)
    assert again.code == 0
    assert "epoch 1" not in again.err
    assert (out / "work" / "textbook-0" / "checkpoint.safetensors").stat().st_mtime_ns == checkpoint
    assert {name: (out / name).read_bytes() for name in before} == before


def test_an_average_is_made_of_what_was_trained_before_it(data, tmp_path):
    options = ("study", "cifar10", "--data", data / "known", "-o", tmp_path, "--far", f"noise={data / 'noise'}")
    shipped = ("--epochs", 1, "--score", "energy", "--false-alarm-rate", 0.2)
    done = run(*options, "--networks", "fine-tuned,longer,soup", *shipped)
    assert done.code == 0, done.err
    rows = {row["run"]: row for row in csv.DictReader((tmp_path / "classification.csv").open())}
    assert list(rows) == ["fine-tuned", "longer", "soup"]
    assert (rows["soup"]["epochs"], float(rows["soup"]["train_seconds"])) == ("0", 0)
    whole = sum(float(rows[name]["train_seconds"]) for name in ("fine-tuned", "longer"))
    assert float(rows["soup"]["seconds_with_start"]) == pytest.approx(whole, rel=1e-3)
    assert {row["run"] for row in csv.DictReader((tmp_path / "curves.csv").open())} == {"fine-tuned", "longer"}
    known = oddsight.load(tmp_path / "soup-energy.onnx").metadata.classes
    assert known.head["average_of"] == ["fine-tuned-0", "longer-0"]
    assert "Model soups" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--networks", "resnet"], "no recipe 'resnet'"),
        (["--networks", "probe", "--ship", "compact"], "compact is to be shipped, but is not among probe"),
        (["--networks", "probe", "--score", "luck"], "no score 'luck'"),
        (["--networks", "probe", "--seeds", ""], "name a seed of 0 or more"),
        (["--networks", "outliers"], "outliers needs fine-tuned of seed 0, which has not been trained"),
        (["--networks", "soup"], "soup needs fine-tuned of seed 0, which has not been trained"),
        (["--networks", "probe", "--false-alarm-rate", "0.001"], "at least 999 calibration images"),
    ],
)
def test_what_cannot_work_is_one_sentence(options, said, data, tmp_path):
    done = run("study", "cifar10", "--data", data / "known", "-o", tmp_path, *options)
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err


def test_images_of_the_classes_are_no_unknown_ones(data, tmp_path):
    options = ("study", "cifar10", "--data", data / "known", "-o", tmp_path, "--networks", "probe")
    done = run(*options, "--near", f"same={data / 'known' / 'test'}")
    assert done.code == 1
    assert "are among those of the known classes" in done.err
