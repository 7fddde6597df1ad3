"""The cache of features: never wrong, never in the way, never larger than its limit."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from oddsight import backbones
from oddsight.backbones.cache import DEFAULT_LIMIT, FeatureCache, default_cache
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import collect
from textures import write_textures

MAKER, OTHER = "a" * 64, "b" * 64
ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def image(number: int) -> str:
    return f"{number:064x}"


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_what_was_put_is_got(tmp_path):
    cache = FeatureCache(tmp_path / "not" / "yet")
    assert cache.get(MAKER, image(1)) is None
    cache.put(MAKER, image(1), ARRAY)
    for reader in (cache, FeatureCache(cache.folder)):
        found = reader.get(MAKER, image(1))
        assert found.dtype == np.float32
        assert np.array_equal(found, ARRAY)
        assert reader.get(OTHER, image(1)) is None
        assert reader.get(MAKER, image(2)) is None
    cache.put(MAKER, image(1), ARRAY + 1)
    assert np.array_equal(cache.get(MAKER, image(1)), ARRAY + 1)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".npy"]


ZIP = io.BytesIO()
np.savez(ZIP, ARRAY)
DAMAGE = {
    "empty": b"",
    "cut": saved(ARRAY)[:-1],
    "header only": saved(ARRAY)[:128],
    "text": b"not an array",
    "zeros": bytes(300),
    "other type": saved(ARRAY.astype(np.float64)),
    "objects": saved(np.array([{}], dtype=object)),
    "an archive cut short": ZIP.getvalue()[:40],
    "an archive": ZIP.getvalue(),
    "a shape that fits nowhere": saved(ARRAY).replace(b"(2, 3, 4)", b"(2,8**99)"),
    "a shape beyond memory": saved(ARRAY).replace(b"(2, 3, 4), }" + b" " * 12, b"(2, 3, 4000000000000), }"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_counts_as_missing(tmp_path, kind):
    cache = FeatureCache(tmp_path)
    cache.put(MAKER, image(1), ARRAY)
    [path] = tmp_path.rglob("*.npy")
    assert DAMAGE[kind] != path.read_bytes()
    path.write_bytes(DAMAGE[kind])
    assert cache.get(MAKER, image(1)) is None
    cache.put(MAKER, image(1), ARRAY)
    assert np.array_equal(cache.get(MAKER, image(1)), ARRAY)


@example(at=18, value=ord("{"))
@given(at=st.integers(0, 127), value=st.integers(0, 255))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.slow
def test_no_damage_to_a_header_raises(tmp_path, at, value):
    cache = FeatureCache(tmp_path)
    cache.put(MAKER, image(1), ARRAY)
    [path] = tmp_path.rglob("*.npy")
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)
    found = cache.get(MAKER, image(1))
    assert found is None or (found.dtype == np.float32 and found.size == ARRAY.size)


def test_a_folder_in_the_place_of_a_file_counts_as_missing(tmp_path):
    cache = FeatureCache(tmp_path)
    (tmp_path / MAKER[:32] / f"{image(1)}.npy").mkdir(parents=True)
    cache.put(MAKER, image(1), ARRAY)
    assert cache.get(MAKER, image(1)) is None


def test_the_least_recently_used_go_when_the_limit_is_passed(tmp_path):
    one = len(saved(ARRAY)) + 4  # and its CRC-32
    cache = FeatureCache(tmp_path, limit=10 * one)
    for number in range(9):
        cache.put(MAKER, image(number), ARRAY)
        os.utime(tmp_path / MAKER[:32] / f"{image(number)}.npy", (1000 + number, 1000 + number))
    assert cache.get(MAKER, image(0)) is not None  # which is a use
    for number in range(9, 11):
        cache.put(MAKER, image(number), ARRAY)
    cache.shrink()
    assert size(tmp_path) <= 0.9 * cache.limit
    left = {number for number in range(11) if cache.get(MAKER, image(number)) is not None}
    assert left == {0, *range(3, 11)}


@pytest.mark.slow
def test_the_limit_holds_without_being_asked(tmp_path):
    cache = FeatureCache(tmp_path, limit=40_000)
    array = np.zeros(500, np.float32)
    for number in range(200):
        cache.put(MAKER, image(number), array)
        # Asked for at every eighth of the limit, so that is how far it may be passed.
        assert size(tmp_path) <= 40_000 * 9 / 8 + 2 * len(saved(array))
    assert cache.get(MAKER, image(199)) is not None


def test_files_of_others_are_never_deleted(tmp_path):
    thesis = tmp_path / "documents" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("my only copy")
    os.utime(thesis, (1000, 1000))
    cache = FeatureCache(tmp_path, limit=100)
    for number in range(3):
        cache.put(MAKER, image(number), ARRAY)
    cache.shrink()
    assert size(tmp_path) <= 100 + len("my only copy")
    assert thesis.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete what is open")
def test_a_cache_that_is_deleted_while_in_use_starts_anew(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    cache.put(MAKER, image(1), ARRAY)
    shutil.rmtree(cache.folder)
    assert cache.get(MAKER, image(1)) is None
    cache.shrink()
    cache.put(MAKER, image(1), ARRAY)
    assert np.array_equal(cache.get(MAKER, image(1)), ARRAY)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    # A file where the folder should be: works for root as well, whom no permission stops.
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file" / "cache")
    cache.put(MAKER, image(1), ARRAY)
    assert cache.get(MAKER, image(1)) is None
    cache.shrink()


@pytest.mark.slow
def test_threads_that_write_read_and_delete_at_once_never_see_half(tmp_path):
    cache = FeatureCache(tmp_path, limit=20_000)
    arrays = [np.full(400, number, np.float32) for number in range(20)]
    problems, hits = [], []

    def work(seed):
        random = np.random.default_rng(seed)
        try:
            for number in random.integers(20, size=150):
                cache.put(MAKER, image(number), arrays[number])
                other = int(random.integers(20))
                found = cache.get(MAKER, image(other))
                if found is not None:
                    hits.append(other)
                    if not np.array_equal(found, arrays[other]):
                        problems.append(other)
                if number == 0:
                    shutil.rmtree(tmp_path / MAKER[:32], ignore_errors=True)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(hits) > 50
    assert not list(tmp_path.rglob("*.part"))


PROCESS = """
import sys
import numpy as np
from pathlib import Path
from oddsight.backbones.cache import FeatureCache

cache = FeatureCache(Path(sys.argv[1]), limit=200_000)
random = np.random.default_rng(int(sys.argv[2]))
hits = 0
for number in random.integers(50, size=400):
    name = f"{number:064x}"
    found = cache.get("m" * 64, name)
    assert found is None or (found == number).all()
    hits += found is not None
    cache.put("m" * 64, name, np.full(2000, number, np.float32))
print(hits)
"""


@pytest.mark.slow
def test_processes_share_a_cache(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    running = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for seed in range(2)
    ]
    for process in running:
        out, problem = process.communicate(timeout=120)
        assert process.returncode == 0, problem
        assert int(out) > 50
    # Each process asks at every eighth of the limit.
    assert size(tmp_path) <= 200_000 * 1.25 + 20_000


@pytest.mark.parametrize(
    ("place", "limit", "expected"),
    [
        ("off", "", None),
        ("OFF", "", None),
        ("/some/where", "", ("/some/where", DEFAULT_LIMIT)),
        ("/some/where", "1000", ("/some/where", 1000)),
        ("/some/where", "much", ("/some/where", DEFAULT_LIMIT)),
    ],
)
def test_the_environment_sets_the_cache(monkeypatch, place, limit, expected):
    monkeypatch.setenv("ODDSIGHT_CACHE", place)
    monkeypatch.setenv("ODDSIGHT_CACHE_LIMIT", limit)
    cache = default_cache()
    assert (None if cache is None else (cache.folder.as_posix(), cache.limit)) == expected


@pytest.mark.slow
def test_features_from_the_cache_are_those_computed_and_are_used(tmp_path):
    write_textures(tmp_path / "images", range(3))
    images = collect(tmp_path / "images").images
    extractor = Extractor(backbones.backbone(backbones.DEFAULT), ("stage3",), 32, "patches")
    cache = FeatureCache(tmp_path / "cache")
    fresh = list(Features(extractor, images))
    first = list(Features(extractor, images, cache))
    assert len(list(cache.folder.rglob("*.npy"))) == 3
    shutil.rmtree(tmp_path / "images")
    warm = Features(extractor, images, cache)
    for _ in range(2):
        assert all(np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in zip(fresh, first, warm, strict=True))
    # An array of another shape is not what was asked for, so the image is wanted again, and is gone.
    [path, *_] = cache.folder.rglob("*.npy")
    np.save(path, ARRAY)
    with pytest.raises(Exception, match="no such file"):
        list(warm)
    # Another size is another maker.
    larger = Extractor(extractor.backbone, ("stage3",), 64, "patches")
    with pytest.raises(Exception, match="no such file"):
        list(Features(larger, images, cache))
