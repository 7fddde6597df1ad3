"""Layouts of datasets: which files are images, which are masks, and which folders nobody trains on."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oddsight.data.anomaly_folders import from_folders, from_mvtec, layout_of, require_normal_folders
from oddsight.data.check import check
from oddsight.data.class_folders import read_class_folders
from oddsight.errors import DataError
from oddsight.evaluation import evaluate
from oddsight.evaluation.compare.trials import read_trials
from oddsight.report import write_report
from tiny_model import tiny_model

MASK = np.zeros((16, 24), np.uint8)
MASK[4:8, 3:12] = 255


def write(root: Path, *names: str) -> Path:
    """Write an image to each name, a different one each time, a mask where the name says so."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = zlib.crc32(name.encode())
        pixels = np.random.default_rng(seed).integers(40, 90, (16, 24, 3), np.uint8)
        if any(part in ("gt", "ground_truth", "masks") for part in path.relative_to(root).parts):
            pixels = MASK
        elif "spot" in name or "ko/" in name or "anomal" in name:
            pixels[MASK > 0] = 200
        Image.fromarray(pixels).save(path)
    return root


def shown(labelled, root):
    """Images of a dataset by their names: the type of anomaly and the mask."""

    def name(path):
        return None if path is None else path.relative_to(root).as_posix()

    return {name(image.path): (image.kind, name(image.mask)) for image in labelled.images}


def test_mvtec_3d(tmp_path):
    write(
        tmp_path,
        *(f"test/{kind}/{part}/{n:03}.png" for kind in ("good", "spot") for part in ("rgb", "gt") for n in (0, 1)),
    )
    write(
        tmp_path, "test/good/xyz/000.tiff", "test/spot/xyz/000.tiff", "test/spot/xyz/001.tiff", "train/good/rgb/000.png"
    )
    found = from_mvtec(tmp_path)
    assert shown(found, tmp_path) == {
        "test/good/rgb/000.png": (None, None),
        "test/good/rgb/001.png": (None, None),
        "test/spot/rgb/000.png": ("spot", "test/spot/gt/000.png"),
        "test/spot/rgb/001.png": ("spot", "test/spot/gt/001.png"),
    }
    assert (found.problems, found.unmatched, found.ignored) == ((), (), 3)
    [trial] = read_trials([tmp_path], None, 0.5, 0)
    assert (trial.normal, trial.anomalous, trial.masks, len(trial.training)) == (2, 2, 2, 1)
    assert trial.paths == (tmp_path / "train" / "good" / "rgb",)


@pytest.mark.slow
def test_mvtec_loco(tmp_path):
    write(tmp_path, "test/good/000.png", "test/logical_anomalies/000.png", "test/structural_anomalies/000.png")
    write(tmp_path, *(f"ground_truth/logical_anomalies/000/{n:03}.png" for n in (0, 1)))
    write(tmp_path, "ground_truth/structural_anomalies/000/000.png")
    other = np.zeros((16, 24), np.uint8)
    other[12:14, 20:] = 17
    Image.fromarray(other).save(tmp_path / "ground_truth" / "logical_anomalies" / "000" / "001.png")
    found = evaluate(tiny_model(), tmp_path)
    assert found.errors == ()
    assert (found.counts["masks"], found.counts["pixel_images"], found.counts["unmatched_masks"]) == (2, 2, 0)
    [logical] = [judged for judged in found.judged if judged.kind == "logical_anomalies"]
    assert Path(logical.mask) == tmp_path / "ground_truth" / "logical_anomalies" / "000"
    # The same as one mask with both parts.
    for folder in ("logical_anomalies", "structural_anomalies"):
        parts = sorted((tmp_path / "ground_truth" / folder / "000").iterdir())
        union = np.max([np.asarray(Image.open(part)) for part in parts], axis=0) > 0
        for part in parts:
            part.unlink()
        Image.fromarray(union).save(tmp_path / "ground_truth" / folder / "000_mask.png")
    assert evaluate(tiny_model(), tmp_path).pixel == found.pixel


@pytest.mark.parametrize("good", ["ok", "normal", "Good"])
def test_btad_and_other_names_of_normal(tmp_path, good):
    write(tmp_path, f"test/{good}/0.bmp", "test/ko/1.bmp", "ground_truth/ko/1.png", f"ground_truth/{good}/0.png")
    write(tmp_path, f"train/{good}/2.bmp")
    found = from_mvtec(tmp_path)
    assert shown(found, tmp_path) == {
        f"test/{good}/0.bmp": (None, None),
        "test/ko/1.bmp": ("ko", "ground_truth/ko/1.png"),
    }
    assert found.unmatched == ()
    assert read_trials([tmp_path], None, 0.5, 0)[0].paths == (tmp_path / "train" / good,)


def test_two_folders_of_normal_test_images_are_refused(tmp_path):
    write(tmp_path, "test/good/0.png", "test/ok/1.png", "test/ko/2.png")
    with pytest.raises(DataError, match="test holds both good and ok"):
        from_mvtec(tmp_path)


def test_visa(tmp_path):
    data = tmp_path / "Data"
    write(data, "Images/Normal/0.JPG", "Images/Anomaly/000.JPG")
    write(data, "masks/Anomaly/000.png")
    found = from_folders(data / "Images/Normal", data / "Images/Anomaly", data / "masks/Anomaly")
    assert shown(found, data) == {
        "Images/Normal/0.JPG": (None, None),
        "Images/Anomaly/000.JPG": ("anomalous", "masks/Anomaly/000.png"),
    }


def test_linked_folders_of_masks_are_followed_and_loops_are_not(tmp_path):
    write(tmp_path, "good/0.png", "bad/spot/1.png", "elsewhere/masks/1_mask.png")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "spot").symlink_to(tmp_path / "elsewhere" / "masks")
    (tmp_path / "elsewhere" / "masks" / "again").symlink_to(tmp_path / "masks")
    found = from_folders(tmp_path / "good", tmp_path / "bad", tmp_path / "masks")
    assert [image.mask for image in found.images] == [None, tmp_path / "masks" / "spot" / "1_mask.png"]
    assert found.unmatched == ()


@pytest.mark.slow
def test_images_without_a_mask_and_masks_without_an_image_are_named(tmp_path):
    write(tmp_path, *(f"test/good/{n}.png" for n in range(3)), *(f"test/spot/{n}.png" for n in range(6)))
    write(tmp_path, "ground_truth/Spot/0_mask.png", "ground_truth/spot/1.png", "ground_truth/spott/2.png")
    model = tiny_model()
    found = evaluate(model, tmp_path)
    named = [str(tmp_path / "test" / "spot" / f"{n}.png") for n in (2, 3, 4, 5)]
    content = found.to_json()
    assert content["masks"]["without"] == named
    assert content["masks"]["unmatched"] == [str(tmp_path / "ground_truth" / "spott" / "2.png")]
    assert (content["masks"]["anomalous"], content["masks"]["used"]) == (6, 2)
    counts = {name: found.counts[name] for name in ("masks", "pixel_images", "without_mask", "unmatched_masks")}
    assert counts == {"masks": 2, "pixel_images": 2, "without_mask": 4, "unmatched_masks": 1}
    assert found.warnings[0] == (
        f"Anomalous images without a mask: 4 ({', '.join(named[:3])} and 1 more); "
        "pixel metrics rest on 2 of 6 anomalous images."
    )
    assert found.warnings[1].startswith("Mask files that belong to no image: 1 (")
    json.dumps(content, allow_nan=False)
    write_report(found, model, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Over the pixels of 2 of 6 anomalous images" in page
    assert all(str(path) in page for path in [*named, content["masks"]["unmatched"][0]])


def test_without_masks_nothing_is_said_of_them(tmp_path):
    write(tmp_path, "test/good/0.png", "test/spot/1.png")
    found = evaluate(tiny_model(), tmp_path)
    assert found.masks is None and found.to_json()["masks"] is None
    assert not any("mask" in line for line in found.warnings)


def test_masks_that_match_nothing_are_an_error(tmp_path):
    write(tmp_path, "test/good/0.png", "test/spot/1.png", "ground_truth/spot/2.png")
    with pytest.raises(DataError, match=r"no mask in .*ground_truth has the sub-folder and name of an image"):
        from_mvtec(tmp_path)


# ---- What is not for training ----

REFUSED = [
    ("data", ["train/good/0.png", "test/good/0.png"], "test"),
    ("data", ["test/good/0.png", "test/bad/0.png"], "test"),
    ("data", ["parts/bottle/train/good/0.png", "parts/bottle/ground_truth/bad/0.png"], "parts/bottle/ground_truth"),
    ("data", ["Images/Normal/0.png", "Images/Anomaly/0.png"], "Images/Anomaly"),
    ("data", ["images/0.png", "Masks/0.png"], "Masks"),
    ("data", ["good/0.png", "mask/spot/0.png"], "mask"),
    ("data", ["good/0.png", "Defect/spot/0.png"], "Defect"),
    ("data/*", ["good/0.png", "ground_truth/0.png"], "ground_truth"),
    ("data/*/good/*.png", ["train/good/0.png", "test/good/0.png"], "test"),
    ("data/**/*.png", ["train/good/0.png", "test/bad/0.png"], "test"),
]


@pytest.mark.parametrize(("path", "files", "odd"), REFUSED)
def test_nobody_trains_on_masks_and_test_images(tmp_path, path, files, odd):
    write(tmp_path / "data", *files)
    with pytest.raises(DataError) as error:
        require_normal_folders([tmp_path / path])
    assert f"holds {tmp_path / 'data' / odd}, which is not for training: name the folder of normal" in str(error.value)


def test_the_folder_to_train_on_is_named_where_it_is_known(tmp_path):
    write(tmp_path, "train/ok/0.png", "test/ok/1.png", "test/ko/2.png")
    with pytest.raises(DataError, match=f"train on, {tmp_path / 'train' / 'ok'}$"):
        require_normal_folders([tmp_path])


@pytest.mark.parametrize(
    "path",
    ["train/good", "train", "test/good", "ground_truth", "train/good/*.png", "nothing", "test/*.jpg"],
)
def test_what_is_named_is_taken(tmp_path, path):
    write(
        tmp_path,
        "train/good/0.png",
        "train/goods/0.png",
        "train/test/1.png",
        "test/good/1.png",
        "ground_truth/bad/0.png",
    )
    require_normal_folders([tmp_path / path, np.zeros((4, 4, 3), np.uint8)])


# ---- Names of folders ----


@pytest.mark.parametrize("masks", ["ground_truth", "groundtruth", "Ground_Truth", "GT", "Masks", "mask"])
@pytest.mark.parametrize("test", ["test/good", "Test/Good", "TEST/OK"])
def test_upper_case_and_other_names(tmp_path, test, masks):
    top, good = test.split("/")
    write(
        tmp_path, f"{top}/{good}/0.png", f"{top}/Spot/1.png", f"{masks}/spot/1_mask.png", f"Train/{good.lower()}/2.png"
    )
    found = from_mvtec(tmp_path)
    assert shown(found, tmp_path) == {
        f"{top}/{good}/0.png": (None, None),
        f"{top}/Spot/1.png": ("Spot", f"{masks}/spot/1_mask.png"),
    }
    assert layout_of(tmp_path).train == tmp_path / "Train" / good.lower()


def test_the_usual_name_of_the_folder_of_masks_is_taken_first(tmp_path):
    write(tmp_path, "test/good/0.png", "test/spot/1.png", "gt/spot/1.png", "ground_truth/spot/1.png", "Test/good/5.png")
    layout = layout_of(tmp_path)
    assert (layout.test, layout.masks) == (tmp_path / "test", tmp_path / "ground_truth")


@pytest.mark.slow
def test_masks_among_the_types_of_anomaly_are_said(tmp_path):
    write(tmp_path, "test/good/0.png", "test/good/2.png", "test/spot/1.png", "test/ground_truth/spot/1.png")
    said = [one for one in evaluate(tiny_model(), tmp_path).warnings if "if they are masks" in one]
    assert said == [
        "the images of ground_truth count as anomalous ones: if they are masks, move that folder elsewhere."
    ]


# ---- Empty folders ----


def test_an_empty_class_folder_is_said(tmp_path):
    write(tmp_path, "cat/0.png", "dog/1.png")
    (tmp_path / "fox" / "deep").mkdir(parents=True)
    [data] = read_class_folders(tmp_path, lambda *_: None).values()
    assert data.classes == ("cat", "dog")
    assert [(error.path, error.reason) for error in data.errors] == [(str(tmp_path / "fox"), "an empty folder")]
    assert "fox is an empty folder" in check(tmp_path).notes


def test_an_empty_type_of_anomaly_is_said(tmp_path):
    write(tmp_path, "test/good/0.png", "test/spot/1.png")
    (tmp_path / "test" / "crack").mkdir()
    assert [problem.path for problem in from_mvtec(tmp_path).problems] == [str(tmp_path / "test" / "crack")]
    assert len(evaluate(tiny_model(), tmp_path).errors) == 1
    both = from_folders(tmp_path / "test" / "good", tmp_path / "test")
    assert [problem.reason for problem in both.problems] == ["an empty folder"]
