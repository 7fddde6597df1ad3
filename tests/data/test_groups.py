"""Groups of images: read, never divided, and counted as one by calibration."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import oddsight
from cli_files import assert_failed, run
from oddsight.data.class_images import ClassImages, stratified
from oddsight.data.collection import ImageFile, count_groups, folds, one_of_each, split
from oddsight.data.grouping import group_images
from oddsight.detectors.auto import _folds
from oddsight.errors import DataError, ModelError
from oddsight.evaluation.compare.trials import read_trials
from oddsight.fitting.parts import divide_classes
from oddsight.model.calibration import decide, p_values
from oddsight.model.metadata import KEY, Metadata
from oddsight.model.model import Model
from textures import SIZE, texture
from tiny_model import tiny_proto

PATTERN = "(part[0-9]+)_"


def image_files(groups, prefix="x"):
    return [
        ImageFile(Path(f"{prefix}{number}.png"), f"{number * 7919 % 10007:064x}", 8, 8, group=group)
        for number, group in enumerate(groups)
    ]


def write_bursts(folder, parts, shots, *, start=0, side=96):
    """Parts photographed several times, with noise."""
    random = np.random.default_rng(start)
    folder.mkdir(parents=True)
    for part in range(start, start + parts):
        image = texture(part, side, side)
        for shot in range(shots):
            noisy = np.clip(image + random.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"part{part}_shot{shot}.png")
    return folder


@pytest.fixture(scope="module")
def bursts(tmp_path_factory):
    """12 parts, 4 shots each."""
    return write_bursts(tmp_path_factory.mktemp("bursts") / "train", 12, 4)


@pytest.fixture(scope="module")
def grouped_model(bursts):
    return oddsight.fit(bursts, method="knn", size=SIZE, groups=PATTERN)


@given(
    st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), min_size=2, max_size=40),
    st.floats(0.05, 0.9),
    st.integers(0, 3),
)
def test_no_group_is_divided(groups, fraction, seed):
    images = image_files(groups)
    first, second = split(images, fraction, seed)
    assert sorted(i.content for i in (*first, *second)) == sorted(i.content for i in images)
    assert not {i.unit for i in first} & {i.unit for i in second}
    assert count_groups(second) == int(np.ceil(fraction * count_groups(images) - 1e-9))
    parts = folds(images, 3, seed)
    assert sum(len({i.unit for i in part}) for part in parts) == count_groups(images)
    drawn = one_of_each(images, seed)
    assert sorted(i.unit for i in drawn) == sorted({i.unit for i in images})


def test_each_image_of_a_group_is_drawn_equally_often():
    images = image_files(["a"] * 4 + ["b"] * 2)
    drawn = [one.content for seed in range(2000) for one in one_of_each(images, seed)]
    counts = [drawn.count(image.content) / 2000 for image in images]
    np.testing.assert_allclose(counts, [0.25] * 4 + [0.5] * 2, atol=0.04)


def test_classes_are_divided_by_groups():
    groups = [f"g{number // 3}" for number in range(60)]
    data = ClassImages(tuple(image_files(groups)), np.arange(60) // 30, ("one", "two"))
    rest, held = stratified(data, 0.2, 0)
    assert not {i.unit for i in rest.images} & {i.unit for i in held.images}
    parts = divide_classes(data, 0.2, 0)
    units = [{i.unit for i in part.images} for part in (parts.training, parts.validation, parts.calibration)]
    assert sum(map(len, units)) == 20
    assert set.union(*units) == set(groups)
    assert (len(parts.calibration), parts.held) == (4, 12)


def test_a_class_of_one_group_cannot_be_divided():
    groups = ["same"] * 10 + [f"g{number}" for number in range(10)]
    data = ClassImages(tuple(image_files(groups)), np.arange(20) // 10, ("one", "two"))
    with pytest.raises(DataError, match="the images of one are in too few groups"):
        divide_classes(data, 0.2, 0)


@pytest.mark.slow
def test_new_groups_are_flagged_at_most_at_the_rate():
    """Images of a group share most of their score; 20,000 draws of 30 calibration groups and one of a new group."""
    random = np.random.default_rng(0)
    rate, draws = 0.1, 20_000
    means = random.normal(size=(draws, 31))
    drawn = means + 0.1 * random.normal(size=(draws, 31))  # one image of each
    thresholds = [decide(scores[:30].astype(np.float32), rate).threshold for scores in drawn]
    flagged = np.mean(drawn[:, 30] > thresholds)
    assert abs(flagged - 3 / 31) < 0.007  # three standard errors
    reached = [p_values(scores[:30].astype(np.float32), scores[30:])[0] <= rate for scores in drawn]
    assert abs(np.mean(reached) - 3 / 31) < 0.007
    # All images of groups of five counted as independent, as it would be without groups: too often.
    every = (means[:, :6, None] + 0.1 * random.normal(size=(draws, 6, 5))).reshape(draws, 30)
    naive = np.mean(drawn[:, 30] > [decide(scores.astype(np.float32), rate).threshold for scores in every])
    assert naive > 1.3 * rate


def test_a_pattern_names_groups():
    grouped = group_images([ImageFile(Path(f"in/part{n // 2}_{n}.png"), f"{n:064x}", 1, 1) for n in range(4)], PATTERN)
    assert [image.group for image in grouped] == ["part0", "part0", "part1", "part1"]


def named(*paths):
    return [ImageFile(Path(path), f"{number:064x}", 1, 1) for number, path in enumerate(paths)]


def test_mappings_and_functions_name_groups():
    images = named("data/a/1.png", "data/b/1.png", "data/b/2.png")
    known = {"a/1.png": 7, "b/1.png": 7, "2.png": "other", "not/there.png": 1}
    assert [image.group for image in group_images(images, known)] == ["7", "7", "other"]
    assert [image.group for image in group_images(images, lambda path: path.split("/")[1])] == ["a", "b", "b"]
    assert [image.group for image in group_images(images, "none")] == ["", "", ""]


def test_a_list_goes_with_paths(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        path.touch()
    names = list(map(str, paths))
    for groups in (["a", "b", "b"], np.array(["a", "b", "b"])):
        grouped = group_images(named(*reversed(paths)), groups, names=names)
        assert [image.group for image in grouped] == ["b", "b", "a"]
    with pytest.raises(DataError, match="has no group"):
        group_images(named(*paths), np.array([1.0, np.nan, 2.0]), names=names)
    for groups, called in ((["a", "b"], names), (["a"], [str(tmp_path)])):
        with pytest.raises(DataError, match="a list of groups goes with as many images"):
            group_images(named(*paths), groups, names=called)


@pytest.mark.parametrize("head", ["path,group", "file,group", "n,group,path"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_csv_file_names_groups(tmp_path, head, start):
    row = {"path": "b/2.png", "file": "b/2.png", "group": "Größe", "n": "1"}
    lines = [head, ",".join(row[column] for column in head.split(","))]
    (tmp_path / "groups.csv").write_text(start + "\n".join(lines) + "\n", encoding="utf-8")
    for path in (tmp_path / "groups.csv", str(tmp_path / "groups.csv")):
        assert group_images(named("data/b/2.png"), path)[0].group == "Größe"


WRONG = {
    "part[0-9]+": "has 0 pairs of brackets",
    "(a)(b)": "has 2 pairs of brackets",
    "(a": "is not a regular expression",
    "(nowhere)": r"finds no group in data/b/1\.png",
    "missing.csv": "cannot be read: No such file",
}


@pytest.mark.parametrize("groups", WRONG)
def test_patterns_and_files_that_name_nothing_are_errors(groups):
    with pytest.raises(DataError, match=WRONG[groups]):
        group_images(named("data/b/1.png"), groups)


TABLES = {
    "a,b\n1,2\n": "has no columns 'path' and 'group'",
    "path,group\n1.png,x\n1.png,y\n": "has two groups for 1.png: x and y",
    "path,group\n2.png,x\n": "has no group for data/b/1.png",
    "path,group\n1.png,\n": "data/b/1.png has no group",
    "path,group\n1.png,x\n9.png,y,z\n": None,
    "": "has no columns",
}


@pytest.mark.parametrize("text", TABLES)
def test_tables_that_name_no_groups_are_errors(tmp_path, text):
    path = tmp_path / "g.csv"
    path.write_text(text, encoding="utf-8")
    if TABLES[text] is None:
        assert group_images(named("data/b/1.png"), path)[0].group == "x"
        return
    with pytest.raises(DataError, match=TABLES[text]):
        group_images(named("data/b/1.png"), path)


def test_one_row_for_two_images_is_an_error():
    with pytest.raises(DataError, match=r"1\.png may be a/1\.png or b/1\.png: write more of the path"):
        group_images(named("a/1.png", "b/1.png"), {"1.png": 1})
    with pytest.raises(DataError, match="groups cannot be a int"):
        group_images(named("a/1.png"), 5)


@pytest.mark.slow
def test_calibration_counts_groups(grouped_model):
    calibration = grouped_model.metadata.calibration
    assert (calibration.kind, calibration.images, calibration.groups) == ("cross", 48, 12)
    assert grouped_model.metadata.schema_version == 5
    assert len(grouped_model.calibration_scores) == grouped_model.fewest == 12
    assert grouped_model.decision.false_alarm_rate == 1 / 13
    assert oddsight.Model.from_bytes(grouped_model.to_bytes()).metadata == grouped_model.metadata
    with pytest.raises(DataError, match="needs at least 19 groups of calibration images, and there are 12"):
        grouped_model.with_decision(false_alarm_rate=0.05)


@pytest.mark.slow
def test_near_copies_are_the_same_groups(bursts, grouped_model):
    plans = []
    model = oddsight.fit(bursts, method="knn", size=SIZE, on_plan=plans.append)
    assert plans[0].request.near_copies
    assert model.to_bytes() == grouped_model.to_bytes()


@pytest.mark.slow
def test_new_parts_are_not_flagged(grouped_model, tmp_path):
    new = write_bursts(tmp_path / "new", 40, 1, start=100)
    flagged = sum(result.anomalous for result in grouped_model.predict_many(sorted(new.iterdir())))
    assert flagged <= 10  # the 97.5 % quantile of the true rate is 26 %


@pytest.mark.slow
def test_too_few_groups_are_an_error(bursts, tmp_path):
    with pytest.raises(DataError, match=r"0\.05 needs at least 19 groups of calibration images, and there are 12"):
        oddsight.fit(bursts, method="knn", size=SIZE, false_alarm_rate=0.05)
    with pytest.raises(DataError, match="48 images form 1 group: without one fold of them 0 images are left"):
        oddsight.fit(bursts, method="knn", size=SIZE, groups=lambda path: "all")
    alone = oddsight.fit(bursts, method="knn", size=SIZE, false_alarm_rate=0.05, groups="none")
    assert alone.metadata.calibration.groups is None
    assert alone.metadata.schema_version == 2


@pytest.mark.slow
def test_a_share_is_of_groups(bursts):
    plans = []
    oddsight.fit(bursts, method="knn", size=SIZE, calibration_fraction=0.25, on_plan=plans.append)
    assert (len(plans[0].training), plans[0].held, len(plans[0].calibration)) == (36, 12, 3)
    assert not {i.unit for i in plans[0].training} & {i.unit for i in plans[0].calibration}


def test_auto_holds_out_whole_groups():
    groups = np.repeat([0, 5, 7, 20, 21, 22], 3)
    count, fold = _folds(groups, np.random.default_rng(0))
    assert count == 6
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
    alone = np.arange(30)
    count, fold = _folds(alone, np.random.default_rng(3))
    np.testing.assert_array_equal(fold, np.random.default_rng(3).permutation(30) % 5)
    assert _folds(np.array([0] * 20 + [1]), np.random.default_rng(0))[0] == 21


@pytest.mark.slow
def test_the_command_says_which_groups_there_are(bursts, tmp_path):
    common = ["fit", bursts, "-o", tmp_path / "m.onnx", "--method", "knn", "--size", SIZE]
    outcome = run(*common)
    assert outcome.code == 0, outcome
    said = " ".join(outcome.err.split())
    assert "48 of 48 images are near copies of others, such as part" in said
    assert "form 12 groups" in said
    assert "calibrating on one of each of 12 groups" in said
    assert "with 12 groups of calibration images this is the smallest possible" in said
    assert "groups" not in run(*common, "--group-by", "none").err
    assert run("info", tmp_path / "m.onnx", "--json").json["calibration"]["images"] == 48
    assert_failed(run(*common, "--group-by", "part", "--quiet"), "put one around what names the group")


@pytest.mark.slow
def test_a_comparison_keeps_groups_together(bursts, tmp_path):
    data = tmp_path / "data"
    write_bursts(data / "odd", 2, 1, start=200)
    (data / "fine").symlink_to(bursts)
    [trial] = read_trials([data], "fine", 0.5, 0)
    assert count_groups(trial.training) == 6
    assert len(trial.training) == 24
    learned = {image.path.name.split("_")[0] for image in trial.training}
    normal = trial.test.subset(np.flatnonzero(~trial.test.anomalous)).images
    assert not learned & {image.path.name.split("_")[0] for image in normal}
    [named_groups] = read_trials([data], "fine", 0.5, 0, PATTERN)
    assert named_groups.groups_fingerprint == trial.groups_fingerprint
    [apart] = read_trials([data], "fine", 0.5, 0, "none")
    assert apart.groups_fingerprint != trial.groups_fingerprint


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        ({"images": 10, "groups": 19}, "fewer than their groups"),
        ({"images": 40, "groups": 18}, "not as many as it says"),
    ],
)
def test_a_model_file_with_wrong_groups_is_refused(calibration, said):
    proto = tiny_proto()
    entry = next(entry for entry in proto.metadata_props if entry.key == KEY)
    content = json.loads(entry.value)
    content["schema_version"] = 5
    content["calibration"] |= {"images": 40, "groups": 19}
    entry.value = json.dumps(content)
    assert Model.from_bytes(proto.SerializeToString()).metadata.calibration.scores == 19
    content["calibration"] |= calibration
    entry.value = json.dumps(content)
    assert Metadata.from_json(entry.value).calibration.groups == calibration["groups"]
    with pytest.raises(ModelError, match=said):
        Model.from_bytes(proto.SerializeToString())
