"""The CSV files of made-up studies are the same bytes as ever: programs read them."""

import hashlib
from dataclasses import replace

import pytest

from cloud_files import made_up_clouds
from oddsight.model.curves import Epoch
from oddsight.runtime.csv_tables import csv_files, csv_of
from oddsight.studies.cifar10.tables import study_tables
from oddsight.studies.clouds.tables import cloud_tables
from study_files import made_up_study

KNOWN = {
    "baselines.csv": "1ff6269c7bd1863b",
    "classification.csv": "47dc17f3424c66ba",
    "confusion.csv": "4d683326a0022ce7",
    "curves.csv": "6ef119224dd2cfe2",
    "ood.csv": "170365fc2f3a8c9b",
    "per_class.csv": "e89572457ea8f77c",
    "shipped.csv": "adca6b8cc1e68dd5",
}
NO_UNKNOWNS = {
    "baselines.csv": "6fdbcaf7132ef567",
    "classification.csv": "3810ea022ad71364",
    "confusion.csv": "9f9cbf4e0d0d6a5e",
    "curves.csv": "34ca0ea9ec9dffac",
    "ood.csv": "ba63ec6ffdb0228d",
    "per_class.csv": "679d5c41d0584f1d",
    "shipped.csv": "a6a2177451aba56a",
}
CLOUDS = {
    "baselines.csv": "b954090b819252c5",
    "curves.csv": "762d7db2b38e9ecb",
    "scenes.csv": "d2545da44b888de7",
    "splits.csv": "1ae7f7681c316072",
    "thresholds.csv": "6210cec2b169f0e1",
}


def digests(files):
    return {name: hashlib.sha256(content).hexdigest()[:16] for name, content in files.items()}


@pytest.mark.slow
def test_files_of_known_classes():
    study = made_up_study(names=("ca|t", "d<o>g", "frog"))
    assert digests(csv_files(study_tables(study))) == KNOWN
    study = made_up_study(sets=(), curves=1, runs=(("textbook", 0), ("probe", 0)))
    assert digests(csv_files(study_tables(study))) == NO_UNKNOWNS


@pytest.mark.slow
def test_files_of_clouds():
    failed = [("gmm", "because <b>no</b>")]
    study = made_up_clouds(names=("cloudy", "sa|nd", "sea"), failed=failed, errors=["sea/1.jpg: empty file"])
    rows = tuple(Epoch(at, 2 / at, 2.2 / at, None, 0.1, 7.5, None, {"a": 1 / at, "b": 2 / at}) for at in range(1, 4))
    runs = tuple(replace(one, curves=rows if one.method == "knn" else ()) for one in study.measured)
    assert digests(csv_files(cloud_tables(replace(study, measured=runs)))) == CLOUDS


def test_rows_by_name():
    rows = [{"a": 0.123456789, "b": None, "c": "x,y"}, {"a": 1e-9, "b": 3, "c": ""}]
    assert csv_of(rows) == b'a,b,c\n0.123457,,"x,y"\n1e-09,3,\n'
    assert csv_of([]) == b"\n"
