"""The report of a study: its tables are what the metrics say, its sentences follow from them, its files are whole."""

import csv
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import groupby
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics as reference

from oddsight.drawing import class_figures as known_figures
from oddsight.drawing import ood_figures as rejection_figures
from oddsight.errors import DataError, OddsightError
from oddsight.studies.cifar10.conclusions import compare_runs, conclude
from oddsight.studies.cifar10.page import study_page, write_study
from oddsight.studies.cifar10.tables import study_tables
from study_files import CALIBRATION, made_up_study, with_shipped

pytestmark = pytest.mark.slow

HOSTILE = '</td><script>alert("1")</script>| `a` [x](http://evil.example) *b*'
SECTIONS = (
    *("approach", "data-and-preprocessing", "methods", "results-predicting-the-class", "results-none-of-these"),
    *("the-shipped-file", "could-something-trivial-do-it", "limitations", "recommendations", "how-to-reproduce"),
)


class Page(HTMLParser):
    """What a page loads, has scripts of, and can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.sources, self.links = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.sources += [given[name] for name in ("src", "xlink:href", "srcset", "data") if name in given]
        self.links += [given["href"]] if "href" in given else []


def table(folder, name):
    return list(csv.DictReader(io.StringIO((folder / name).read_text())))


def concluded(study, **settings):
    return conclude(study, study_tables(study, **settings))


def said(study, **settings):
    """All that a page says in sentences and cells."""
    return study_page(concluded(study, **settings))[0].replace("\\", "")


def headline(study):
    """What stands above the first section."""
    return said(study).partition("\n## ")[0]


def row_of(text, name):
    """The cells of the row that starts with a name."""
    line = next(line for line in text.splitlines() if line.startswith((f"| {name} |", f"| **{name}** |")))
    return [cell.strip().strip("*") for cell in line.strip("|").split("|")][1:]


@pytest.fixture
def undrawn(monkeypatch):
    """No charts, which take most of the time of a page."""
    for module in (known_figures, rejection_figures):
        monkeypatch.setattr(module, "chart", lambda *_: Markup('<svg width="1pt"></svg>'))


@pytest.fixture(scope="module")
def study():
    return made_up_study(names=("cat", HOSTILE, "frog"))


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "new"
    written = write_study(study, folder)
    assert written[0] == folder / "report.html"
    assert {path.name for path in written} == {path.name for path in folder.iterdir()} - {"figures"}
    return folder


def test_classification_is_what_the_metrics_say(study, folder):
    rows = table(folder, "classification.csv")
    assert [(row["run"], row["seed"]) for row in rows] == [("textbook", "0"), ("compact", "0"), ("compact", "1")]
    for run, row in zip(study.runs, rows, strict=True):
        guess, plain = run.logits.argmax(1), softmax(run.logits.astype(float), 1)
        scaled = softmax(run.logits / 1.5, 1)
        precision, recall, f1, _ = reference.precision_recall_fscore_support(run.labels, guess, average="macro")
        interval = binomtest(int((guess == run.labels).sum()), len(guess)).proportion_ci(0.95)
        expected = {
            "accuracy": (guess == run.labels).mean(),
            "accuracy_low": interval.low,
            "accuracy_high": interval.high,
            "macro_precision": precision,
            "macro_recall": recall,
            "macro_f1": f1,
            "nll": reference.log_loss(run.labels, plain),
            "nll_scaled": reference.log_loss(run.labels, scaled),
            "brier": np.square(plain - np.eye(3)[run.labels]).sum(1).mean(),
            "temperature": 1.5,
            "epochs": 3,
            "train_seconds": 23.5,
            "test_images": 120,
        }
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected, rel=1e-5)
        assert float(row["ece"]) != float(row["ece_scaled"])


def test_classes_and_confusions_are_those_of_the_runs(study, folder):
    names, run = study.data.classes, study.runs[-1]
    own = [row for row in table(folder, "per_class.csv") if (row["run"], row["seed"]) == ("compact", "1")]
    precision, _, _, support = reference.precision_recall_fscore_support(run.labels, run.logits.argmax(1))
    assert [row["class"] for row in own] == list(names)
    assert [float(row["precision"]) for row in own] == pytest.approx(precision, rel=1e-5)
    assert [int(row["support"]) for row in own] == support.tolist()
    counts = np.zeros((3, 3), int)
    for row in table(folder, "confusion.csv"):
        if (row["run"], row["seed"]) == ("compact", "1"):
            counts[names.index(row["truth"]), names.index(row["predicted"])] = int(row["count"])
    assert (counts == reference.confusion_matrix(run.labels, run.logits.argmax(1))).all()
    curves = table(folder, "curves.csv")
    assert len(curves) == 9
    assert curves[1] == {
        **{"run": "textbook", "seed": "0", "epoch": "2", "train_loss": "1", "validation_loss": "1.1"},
        **{"train_accuracy": "0.8", "validation_accuracy": "0.75", "learning_rate": "0.1", "seconds": "7.5"},
    }


def test_scores_are_what_the_metrics_say(study, folder):
    rows = table(folder, "ood.csv")
    assert len(rows) == 3 * 2 * 2
    for run in study.runs:
        for scored in run.scores:
            for name, near in (("cars", "near"), ("noise", "far")):
                key = (run.name, str(run.seed), scored.name, name)
                row = next(row for row in rows if (row["run"], row["seed"], row["score"], row["unknown"]) == key)
                unknown, right = scored.unknown[name], run.logits.argmax(1) == run.labels
                truth = np.repeat([0, 1], [120, len(unknown)])
                values = np.concatenate([scored.known, unknown])
                # 5% of 100 ranks may be above: the fifth highest of 99 is the threshold.
                bar = np.sort(scored.calibration)[-5]
                beats = (scored.known[:, None] < unknown) & right[:, None]
                expected = {
                    "auroc": reference.roc_auc_score(truth, values),
                    "aupr_out": reference.average_precision_score(truth, values),
                    "aupr_in": reference.average_precision_score(1 - truth, -values),
                    "fpr95": (scored.known >= np.sort(unknown)[::-1][math.ceil(0.95 * len(unknown)) - 1]).mean(),
                    "oscr": beats.mean(),
                    "threshold": bar,
                    "false_rejection_rate": (scored.known > bar).mean(),
                    "detection_rate": (unknown > bar).mean(),
                    "detection_low": binomtest(int((unknown > bar).sum()), len(unknown)).proportion_ci(0.95).low,
                    "false_rejection_high": binomtest(int((scored.known > bar).sum()), 120).proportion_ci(0.95).high,
                    "precision": reference.precision_score(truth, values > bar),
                    "recall": (unknown > bar).mean(),
                    "f1": reference.f1_score(truth, values > bar),
                    "fit_seconds": scored.seconds,
                    "unknown_images": len(unknown),
                }
                assert {name: float(row[name]) for name in expected} == pytest.approx(expected, rel=1e-5)
                assert row["nearness"] == near
                assert float(row["auroc_low"]) < float(row["auroc"]) < float(row["auroc_high"])


def test_shipped_is_what_the_file_said(study, folder):
    file, rows = study.shipped, table(folder, "shipped.csv")
    right = file.predicted == file.labels

    def row(measure, name=""):
        return next(row for row in rows if (row["measure"], row["name"]) == (measure, name))

    everything = row("rejected")
    assert (int(everything["count"]), int(everything["images"])) == (file.rejected.sum(), 120)
    assert float(everything["asked"]) == 0.05
    assert float(row("accuracy of accepted")["share"]) == pytest.approx(right[~file.rejected].mean(), rel=1e-5)
    assert int(row("rejected of mistakes")["images"]) == (~right).sum()
    for index, name in enumerate(study.data.classes):
        assert int(row("rejected", name)["count"]) == file.rejected[file.labels == index].sum()
    assert int(row("rejected", "noise")["count"]) == file.found["noise"].sum()
    assert row("rejected", "cars")["images_of"] == "near unknowns"
    baselines = table(folder, "baselines.csv")
    assert baselines[0] == {
        "unknown": "cars", "nearness": "near", "images": "60", "baseline": "brightness", "auroc": "0.6"
    }  # fmt: skip


def test_confidence_widens_every_interval():
    study = made_up_study()
    usual, wide = study_tables(study), study_tables(study, confidence=0.999)
    for narrow, other in ((usual.ood[0], wide.ood[0]), (usual.classification[0], wide.classification[0])):
        lows = [name for name in narrow._fields if name.endswith("_low")]
        assert lows
        for name in lows:
            high = name.replace("_low", "_high")
            assert getattr(other, name) <= getattr(narrow, name) < getattr(narrow, high) <= getattr(other, high)
    assert wide.ood[0].auroc_low < usual.ood[0].auroc_low < usual.ood[0].auroc_high < wide.ood[0].auroc_high
    assert wide.shipped[0].low < usual.shipped[0].low
    with pytest.raises(OddsightError):
        study_tables(study, confidence=1.0)


def test_page_is_whole_and_safe(study, folder):
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert [name for name in page.ids if name in SECTIONS] == list(SECTIONS)
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "script" not in page.tags
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    # Images of an SVG have a href, too.
    assert any(link.startswith("data:image/") for link in page.links)
    assert not [link for link in page.links if not link.startswith(("#", "data:image/"))]
    names = re.findall(r"https?://[^\s\"<]+", text)
    assert {name for name in names if "evil" not in name} <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "&lt;script&gt;alert" in text


def test_markdown_says_the_same_and_refers_to_files_that_are_there(study, folder):
    text = (folder / "report.md").read_text()
    figures = re.findall(r"(?<!\\)\]\(([^)]*)\)", text)
    assert {f"figures/{path.name}" for path in (folder / "figures").iterdir()} == set(figures)
    for name in figures:
        root = ElementTree.parse(folder / name).getroot()
        assert "var(" not in ElementTree.tostring(root, "unicode")
    html = (folder / "report.html").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == re.findall(r'<h2 id="[^"]*">(.*)</h2>', html)
    assert html.count("<svg") == len(figures)
    assert len(re.findall(r"^\| ---", text, re.MULTILINE)) == html.count("<thead>")
    assert "<script>" not in text.replace("\\<script\\>", "")
    widths = [
        [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
        for is_table, lines in groupby(text.splitlines(), lambda line: line.startswith("|"))
        if is_table
    ]
    assert widths
    assert all(len(set(each)) == 1 for each in widths)


def test_same_study_same_bytes(study, folder, tmp_path):
    write_study(study, tmp_path)
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.usefixtures("undrawn")
def test_nothing_is_written_where_nothing_can_be(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OddsightError, match="cannot make the folder"):
        write_study(made_up_study(), tmp_path / "taken")


@pytest.mark.usefixtures("undrawn")
def test_tables_are_the_numbers_of_the_study():
    study = made_up_study()
    found, text = concluded(study), said(study)
    assert "> **" not in headline(study)
    shares = [(run.logits.argmax(1) == run.labels).mean() for run in study.runs]
    best = row_of(text, "The compact network")
    assert best[:3] == ["2", f"{np.mean(shares[1:]):.1%}", f"{shares[1]:.1%}\u2013{shares[2]:.1%}"]
    assert best[-1] == "most accurate"
    other, test = (
        row_of(text.partition("McNemar")[2], "The textbook network"),
        compare_runs(study.runs[1], study.runs[0]),
    )
    assert other[5:7] == [str(test.only_first), str(test.only_second)]
    assert other[-1] == ("less accurate" if test.p_value < 0.05 else "not distinguishable")
    areas = {
        name: {one.name: reference.roc_auc_score(np.repeat([0, 1], [120, len(one.unknown[name])]),
                                                 np.concatenate([one.known, one.unknown[name]]))
               for one in study.runs[-1].scores}
        for name in ("cars", "noise")
    }  # fmt: skip
    shipped = study.shipped.score
    for near, name in (("near", "cars"), ("far", "noise")):
        value, best_score = areas[name][shipped], max(areas[name], key=areas[name].get)
        cells = row_of(text.partition("## Recommendations")[2], near)
        assert cells[:3] == [f"{value:.3f}", best_score, f"{areas[name][best_score]:.3f}"]
        assert cells[4] == ("no reason to change" if best_score == shipped else f"{best_score} is better")
    assert row_of(text, "Test images rejected, at most 5% asked for")[-1] == found.promise.verdict
    detected = f"{study.shipped.found['cars'].mean():.1%}".replace(".0%", "%")
    assert row_of(text, "Unknown images detected, 1 near set")[0] == detected


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("baseline", "verdict"), [(0.6, "score wins"), (0.9999, "baseline beats every score")])
def test_a_trivial_baseline_that_wins_is_above_all_else_and_in_its_table(baseline, verdict):
    study = made_up_study(baseline=baseline)
    assert ("A trivial baseline wins on cars" in headline(study)) == (baseline > 0.9)
    assert row_of(said(study), "verdict") == [verdict, verdict]


@pytest.mark.usefixtures("undrawn")
def test_image_size_is_no_evidence_against_a_score():
    study = made_up_study()
    sizes = tuple(replace(one, baselines={"brightness": 0.6, "image size": 1.0}) for one in study.unknowns)
    study = replace(study, unknowns=sizes)
    assert "Image size gives cars away" in headline(study)
    assert "A trivial baseline wins" not in headline(study)
    assert row_of(said(study), "verdict") == ["score wins", "score wins"]


@pytest.mark.usefixtures("undrawn")
def test_a_trivial_baseline_that_beats_only_the_shipped_score_is_said_as_that():
    study = made_up_study(runs=(("compact", 0),))
    shipped, other = (
        next(row.auroc for row in study_tables(study).ood if (row.score, row.unknown) == (score, "cars"))
        for score in ("knn", "msp")
    )
    # The better score is shipped in a made-up study: ship the other.
    between = (shipped + other) / 2
    study = made_up_study(runs=(("compact", 0),), score_names=("msp", "knn"), baseline=between)
    worse = study.runs[0].scores[0]
    study = with_shipped(study, score="msp", known=worse.known, unknown=worse.unknown)
    assert "(knn of compact). Verdict: baseline beats the shipped score" in headline(study)
    assert row_of(said(study), "verdict")[0] == "baseline beats the shipped score"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("rejected", "words", "warned"),
    [(1, "kept", False), (7, "compatible with the promise", False), (40, "more than chance explains", True)],
)
def test_a_promise_is_judged_by_chance_in_both_draws(rejected, words, warned):
    flags = np.arange(120) < rejected
    study = with_shipped(made_up_study(), rejected=flags)
    assert words in row_of(headline(study), "Test images rejected, at most 5% asked for")[-1]
    assert ("> **Promise broken" in headline(study)) == warned
    promise = concluded(study).promise
    # Draws of 99 + 120 exchangeable images, of which the threshold is the fifth highest of the first 99.
    rng = np.random.default_rng(0)
    draws = rng.random((4000, CALIBRATION + 120))
    bars = np.sort(draws[:, :CALIBRATION])[:, -5]
    counts = (draws[:, CALIBRATION:] > bars[:, None]).sum(1)
    assert promise.more_by_chance == pytest.approx((counts >= rejected).mean(), abs=0.03)
    assert promise.fewer_by_chance == pytest.approx((counts <= rejected).mean(), abs=0.03)
    assert (promise.least, promise.most) == pytest.approx(np.quantile(counts, [0.025, 0.975]) / 120, abs=0.01)


@pytest.mark.usefixtures("undrawn")
def test_a_promise_can_be_kept_with_more_room_than_chance_explains():
    study = with_shipped(made_up_study(images=2000, rate=0.2), rejected=np.zeros(6000, bool))
    assert "fewer than chance explains" in headline(study)


def test_paired_runs_are_compared_image_by_image():
    labels = np.zeros(12, np.int64)
    right, wrong = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    run = made_up_study(names=("a", "b")).runs[0]
    first = replace(run, labels=labels, logits=np.repeat([right[0], wrong[0]], [10, 2], axis=0).astype(np.float32))
    second = replace(run, labels=labels, logits=np.repeat([wrong[0], right[0]], [8, 4], axis=0).astype(np.float32))
    found = compare_runs(first, second)
    assert (found.only_first, found.only_second) == (8, 2)
    assert found.p_value == pytest.approx(binomtest(8, 10).pvalue)
    assert compare_runs(first, first).p_value == 1
    with pytest.raises(DataError, match="not tested on the same images"):
        compare_runs(first, run)


def test_time_counts_what_a_recipe_starts_from():
    study = made_up_study(runs=(("fine-tuned", 0), ("outliers", 0), ("outliers", 1)))
    assert [row.seconds_with_start for row in study_tables(study).classification] == [23.5, 47.0, 23.5]


def test_time_of_an_average_counts_each_training_once():
    study = made_up_study(runs=(("fine-tuned", 0), ("longer", 0), ("soup", 0)))
    assert study_tables(study).classification[-1].seconds_with_start == 3 * 23.5


@pytest.mark.usefixtures("undrawn")
def test_what_came_out_badly_has_a_verdict_and_limits_are_named():
    study = made_up_study()
    file = study.shipped
    rejected = (file.labels == 1) & (np.arange(120) % 2 == 0)
    none = {name: np.zeros_like(flags) for name, flags in file.found.items()}
    text = said(with_shipped(study, rejected=rejected, found=none))
    by_class = text.partition("By true class")[2]
    assert (row_of(by_class, "dog")[1], row_of(by_class, "dog")[-1]) == ("50%", "more than asked for")
    assert row_of(by_class, "cat")[-1] == "compatible"
    assert row_of(text, "cars")[3:5] == ["0", "0%"]
    assert "3 test images also among the training images" in text
    assert "Fewer than 100 images each: cars and noise" in text
    assert "**Unreadable files:** 1" in text


_NO_UNKNOWNS = {"sets": (), "curves": 1, "runs": (("textbook", 0), ("probe", 0))}
_LEAST = {"sets": (("noise", False, 1),), "names": ("a", "b"), "runs": (("compact", 0),), "curves": 0}


@pytest.mark.parametrize("changes", [_NO_UNKNOWNS, _LEAST], ids=["no unknowns", "two classes and one image"])
def test_small_studies_have_pages_with_charts(changes, tmp_path):
    check_page(made_up_study(**changes), tmp_path)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "changes",
    [
        {"runs": (("compact", 0),), "score_names": ("msp",), "images": 1},
        {"rate": 0.02, "names": tuple(f"class {number}" for number in range(30)), "images": 2},
        {"sets": tuple((f"set {number}", True, 5) for number in range(7))},
    ],
    ids=["one run and score", "many classes", "only near sets"],
)
def test_any_study_has_a_page(changes, tmp_path):
    check_page(made_up_study(**changes), tmp_path)


def check_page(study, tmp_path):
    write_study(study, tmp_path)
    text = (tmp_path / "report.html").read_text()
    wanted = set(SECTIONS) - ({"could-something-trivial-do-it"} if not study.unknowns else set())
    assert wanted <= set(Page(text).ids)
    assert Page(text).tags.count("h1") == 1
    assert "None" not in re.sub(r"<[^>]*>", "", text).replace("None were given", "")
    assert "nan" not in (tmp_path / "ood.csv").read_text()
    if not study.unknowns:
        assert "No images of other things were given" in text
        assert table(tmp_path, "ood.csv") == []


@pytest.mark.usefixtures("undrawn")
def test_published_numbers_are_for_cifar10_only():
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    ten = made_up_study(names=names, images=4, runs=(("compact", 0),))
    assert "no like-for-like comparison" in said(replace(ten, name="cifar10"))
    assert "no like-for-like comparison" not in said(ten)
    assert "no like-for-like comparison" not in said(replace(made_up_study(images=4), name="cifar10"))


@pytest.mark.usefixtures("undrawn")
def test_thresholds_by_class_are_shown():
    study = with_shipped(made_up_study(runs=(("compact", 0),)), per_class=True, thresholds=(1.25, 1.5, 1.75))
    text = said(study)
    assert "one for each class, from 1.25 to 1.75" in text
    assert "the file has one for each" in text


def test_a_run_that_was_not_trained_is_refused():
    with pytest.raises(DataError, match="which it did not train"):
        concluded(with_shipped(made_up_study(), score="vim"))
    with pytest.raises(DataError, match="has no runs"):
        study_tables(replace(made_up_study(), runs=()))


@pytest.mark.usefixtures("undrawn")
def test_too_few_calibration_images_leave_fields_empty():
    study = made_up_study(runs=(("compact", 0),))
    few = replace(
        study.runs[0], scores=tuple(replace(one, calibration=one.calibration[:10]) for one in study.runs[0].scores)
    )
    study = replace(study, runs=(few,))
    rows = study_tables(study).ood
    assert all(row.threshold is None and row.f1 is None for row in rows)
    assert "too few calibration images" in said(study)
