"""Limits of reading images: memory that they share, and time that each may take."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile_files import empty_png, jpeg_of_exif_blocks, jpeg_of_scans, noise_jpeg, tiff_of_pages
from image_files import RGB, save
from oddsight.data import decoder_process, decoding, images, opening
from oddsight.data.decoding import bytes_to_decode, memory_for_images, set_image_limits
from oddsight.data.file_structure import seconds_to_read
from oddsight.data.images import decode_image, read_header, read_image, read_valid_image
from oddsight.data.mask_files import read_mask
from oddsight.data.opening import MAX_SIDE
from oddsight.data.pixels import to_rgb
from oddsight.errors import ImageError, MemoryBudgetError, OddsightError
from oddsight.runtime.parallel import ordered_map
from tiff_files import page, write


@pytest.fixture(autouse=True)
def usual_limits():
    yield
    set_image_limits(timeout=decoding.IMAGE_TIMEOUT, memory=decoding.IMAGE_MEMORY)


@pytest.fixture
def all_watched(monkeypatch):
    """Every image is read by a process of its own."""
    monkeypatch.setattr(decoding, "_CHEAP", -1.0)


def need(path):
    with Image.open(path) as image:
        return bytes_to_decode(image)


# Memory


@pytest.mark.slow
def test_as_many_images_are_decoded_at_once_as_fit(tmp_path, monkeypatch):
    paths = [save(RGB, tmp_path / f"{number}.png") for number in range(12)]
    convert, lock, under_way, most = to_rgb, threading.Lock(), [0], [0]

    def watched(image, name):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.01)
        with lock:
            under_way[0] -= 1
        return convert(image, name)

    monkeypatch.setattr(images, "to_rgb", watched)
    for together in (1, 2, 3):
        most[0] = 0
        with memory_for_images(together * need(paths[0])):
            assert all(
                np.array_equal(one, RGB) for one in ordered_map(lambda p: read_image(p).copy(), paths, workers=8)
            )
        assert most[0] <= together


def test_an_image_that_never_fits_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = save(RGB, tmp_path / "a.png")
    monkeypatch.setattr(images, "to_rgb", lambda *_: pytest.fail("it was decoded"))
    with memory_for_images(need(path) - 1), pytest.raises(ImageError, match="--memory"):
        read_image(path)
    with memory_for_images(need(path) - 1, final=True), pytest.raises(MemoryBudgetError, match=r"a\.png.*--memory"):
        read_image(path)


def test_blocks_of_threads_end_in_any_order_and_hold_for_their_own(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    small_began, large_ended = threading.Event(), threading.Event()

    def in_little_room():
        with memory_for_images(1), pytest.raises(ImageError, match="--memory"):
            small_began.set()
            assert large_ended.wait(60)
            read_image(path)

    with ThreadPoolExecutor(1) as pool:
        with memory_for_images(10 * need(path)):
            other = pool.submit(in_little_room)
            assert small_began.wait(60)
            read_image(path)
        large_ended.set()
        other.result()
    read_image(path)


@pytest.mark.slow
def test_memory_is_held_until_the_pixels_are_gone(tmp_path):
    path = save(RGB, tmp_path / "a.png")
    with memory_for_images(10 * need(path)) as room:
        pixels = read_image(path)
        assert sum(room._taken.values()) >= pixels.nbytes
        view = pixels[1:]
        del pixels
        assert room._taken
        del view
        gc.collect()
        assert not room._taken
        with pytest.raises(ImageError):
            read_image(tmp_path / "missing.png")
        assert not room._taken
        assert room.largest == need(path)


def test_a_thread_that_keeps_its_pixels_does_not_wait_for_itself(tmp_path):
    path = save(RGB, tmp_path / "a.png")
    with memory_for_images(need(path)):
        kept = [read_image(path) for _ in range(5)]
        assert len(kept) == 5


@pytest.mark.slow
def test_an_image_that_takes_long_to_read_is_waited_for(tmp_path, monkeypatch):
    paths = [save(RGB, tmp_path / f"{number}.png") for number in range(3)]
    monkeypatch.setattr(decoding, "_LONGEST_WAIT", 0.05)
    convert, under_way = to_rgb, threading.Semaphore(1)

    def slow(image, name):
        assert under_way.acquire(blocking=False), "two at once"
        time.sleep(0.3)
        under_way.release()
        return convert(image, name)

    monkeypatch.setattr(images, "to_rgb", slow)
    with memory_for_images(need(paths[0])), ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda path: np.array_equal(read_image(path), RGB), paths))


def test_threads_that_keep_their_pixels_do_not_wait_for_each_other(tmp_path):
    path = save(RGB, tmp_path / "a.png")

    def two(_):
        first = read_image(path)
        return np.array_equal(first, read_image(path))

    with memory_for_images(need(path)), ThreadPoolExecutor(4) as pool:
        assert all(pool.map(two, range(12)))


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "advice"), [("png", "save it as a tiled TIFF and cut it"), ("tif", "or cut it")])
def test_what_is_too_large_is_told_what_to_do(tmp_path, suffix, advice):
    if suffix == "png":
        path = empty_png(tmp_path / "a.png", 12_000, 12_000)
    else:
        path = write(
            tmp_path / "a.tif",
            page(np.zeros((1, 12_000, 1), np.uint8), 1, tags={257: (4, [12_000]), 278: (4, [12_000])}),
        )
    with pytest.raises(ImageError, match=f"limit of 134,217,728: raise the memory budget .*{advice} into tiles"):
        read_image(path)


def test_a_scene_takes_less_than_an_image_that_is_read_as_a_whole(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (3000, 2000)).save(path)
    with memory_for_images(45_000_000):
        with pytest.raises(ImageError, match="reading it takes 72 MB of memory, and 45 MB are available"):
            read_image(path)
        assert decode_image(path).rows(1999, 2000).shape == (1, 3000, 3)
    with memory_for_images(30_000_000), pytest.raises(ImageError, match="reading it takes 39 MB of memory, and 30 MB"):
        decode_image(path)


@pytest.mark.slow
def test_a_scene_may_have_more_pixels_where_memory_allows(tmp_path):
    path = empty_png(tmp_path / "a.png", 12_000, 12_000)
    with memory_for_images(500_000_000), pytest.raises(ImageError, match="reading it takes 653 MB of memory, and 500"):
        decode_image(path)
    with pytest.raises(ImageError, match=r"300,000 x 1 pixels: a side is longer than the limit of 262,144$"):
        decode_image(empty_png(tmp_path / "long.png", 300_000, 1))


def test_more_memory_admits_more_pixels(tmp_path, monkeypatch):
    path = save(RGB, tmp_path / "a.png")
    monkeypatch.setattr(opening, "MAX_PIXELS", 10)
    with pytest.raises(ImageError, match="more than the limit of 10"):
        read_image(path, max_pixels=10)
    with memory_for_images(decoding.IMAGE_MEMORY * 2):
        assert read_image(path, max_pixels=10).shape == RGB.shape
        with pytest.raises(ImageError, match="more than the limit of 9"):  # which is the caller's own
            read_image(path, max_pixels=9)


@pytest.mark.parametrize(
    ("mode", "suffix", "options", "least"),
    [
        ("RGB", "png", {}, 10),
        ("RGBA", "png", {}, 18),
        ("P", "png", {"transparency": 1}, 15),
        ("L", "png", {}, 11),
        ("I;16", "png", {}, 13.1),
        ("RGB", "jpg", {}, 10.1),
        ("RGB", "jpg", {"progressive": True}, 16),
        ("CMYK", "jpg", {}, 14.1),
        ("RGB", "webp", {}, 18.1),
        ("RGBA", "webp", {}, 26.9),
        ("RGB", "tif", {}, 10),
        ("RGBA", "tif", {}, 18.1),
        ("CMYK", "tif", {}, 14.1),
        ("RGB", "bmp", {}, 10),
        ("RGB", "ppm", {}, 10),
        ("P", "gif", {}, 11),
    ],
)
def test_a_format_counts_for_what_was_measured(tmp_path, mode, suffix, options, least):
    """The numbers are those of benchmarks/decoding_memory.csv."""
    image = Image.new(mode, (100, 50))
    image.save(tmp_path / f"a.{suffix}", **options)
    assert need(tmp_path / f"a.{suffix}") >= 5000 * least


@pytest.mark.parametrize(("width", "height"), [(1, MAX_SIDE + 1), (MAX_SIDE + 1, 1)])
def test_a_long_image_is_refused_and_can_be_cut(tmp_path, width, height):
    path = empty_png(tmp_path / "long.png", width, height)
    with pytest.raises(ImageError, match="--tile"):
        read_image(path)
    with pytest.raises(ImageError, match="--tile"):
        read_valid_image(path.read_bytes(), "long")
    assert decode_image(path).size == (width, height)


_PEAK = """
import sys
import numpy as np
from oddsight.graphs.preprocessing import preprocessing
from oddsight.runtime.sessions import run, session
from oddsight.data.images import read_image

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

loaded = session(preprocessing(224).SerializeToString(), threads=1)
run(loaded, {"image": np.zeros((1, 300, 300, 3), np.uint8)}, "warm")
for path in sys.argv[1:]:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = peak()
    run(loaded, {"image": read_image(path)[None]}, path)
    print(1024 * (peak() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="takes Linux's peak memory")
def test_reading_and_resizing_takes_no_more_than_was_reserved(tmp_path):
    shapes = [(1, MAX_SIDE), (MAX_SIDE, 1), (30_000, 3), (1000, 1000), (40, 20_000)]
    paths = [empty_png(tmp_path / f"{w}x{h}.png", w, h, kind, 8) for w, h in shapes for kind in (2, 6)]
    done = subprocess.run([sys.executable, "-c", _PEAK, *paths], capture_output=True, text=True, check=True)
    for path, peak in zip(paths, done.stdout.splitlines(), strict=True):
        assert int(peak) <= need(path) + 4_000_000, path.name


_SCENE_PEAK = """
import sys
from oddsight.data.images import decode_image

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

before = peak()
image = decode_image(sys.argv[1])
for top in range(0, image.size[1], 256):
    image.rows(top, min(top + 256, image.size[1]))
print(1024 * (peak() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/status", os.R_OK), reason="takes Linux's peak memory")
@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("RGB", "jpg", {}),
        ("RGB", "jpg", {"progressive": True, "subsampling": 0}),
        ("L", "jpg", {}),
        ("CMYK", "jpg", {}),
        ("RGB", "png", {}),
        ("RGBA", "png", {}),
        ("P", "png", {"transparency": 1}),
        ("I;16", "png", {}),
        ("RGB", "webp", {}),
        ("RGBA", "webp", {}),
        ("RGB", "jp2", {}),
    ],
)
def test_reading_by_rows_takes_no_more_than_was_reserved(tmp_path, mode, suffix, options):
    path = tmp_path / f"a.{suffix}"
    Image.new(mode, (2500, 2500)).save(path, **options)
    done = subprocess.run([sys.executable, "-c", _SCENE_PEAK, path], capture_output=True, text=True, check=True)
    with Image.open(path) as image:
        assert int(done.stdout) <= bytes_to_decode(image, by_rows=True) + 4_000_000


# Time


@pytest.mark.parametrize(
    ("make", "read"),
    [
        pytest.param(lambda path: jpeg_of_scans(path, 300_000), read_image, id="scans"),
        *(
            pytest.param(make, read, id=name, marks=pytest.mark.slow)
            for name, make, read in (
                ("mask", lambda path: jpeg_of_scans(path, 300_000), read_mask),
                ("image", lambda path: jpeg_of_scans(path, 300_000), decode_image),
                (
                    "bytes",
                    lambda path: jpeg_of_scans(path, 300_000),
                    lambda path: read_valid_image(path.read_bytes(), str(path)),
                ),
                ("exif", lambda path: jpeg_of_exif_blocks(path, 1_500), read_header),
                ("pages", lambda path: tiff_of_pages(path, 1_500_000), read_header),
            )
        ),
    ],
)
@pytest.mark.slow
def test_reading_ends_in_time(tmp_path, make, read):
    """Each would take minutes or hours."""
    path = make(tmp_path / "hostile")
    set_image_limits(timeout=1)
    with pytest.raises(ImageError, match="more than 1 seconds"):
        read(path)


@pytest.mark.slow
def test_others_are_read_after_one_was_ended(tmp_path, all_watched):
    path, good = jpeg_of_scans(tmp_path / "hostile.jpg", 200_000), save(RGB, tmp_path / "good.png")
    set_image_limits(timeout=1)
    with pytest.raises(ImageError):
        read_image(path)
    set_image_limits(timeout=60)
    assert np.array_equal(read_image(good), RGB)


def whole(image):
    return image.rows(0, image.size[1])


@pytest.mark.slow
def test_a_process_ends_with_the_image_that_it_holds(tmp_path, all_watched, monkeypatch):
    set_image_limits(timeout=60)
    ended, end = [], decoder_process._Decoder.end
    monkeypatch.setattr(decoder_process._Decoder, "end", lambda process: (end(process), ended.append(process)))
    first, second = (decode_image(save(RGB // part, tmp_path / f"{part}.png")) for part in (1, 2))
    assert np.array_equal(whole(first), RGB)
    assert np.array_equal(whole(second), RGB // 2)
    assert not ended
    del first
    gc.collect()
    assert len(ended) == 1
    assert not ended[0].alive
    assert np.array_equal(whole(second), RGB // 2)


@pytest.mark.slow
def test_a_broken_process_is_an_error_of_the_image_that_it_holds(tmp_path, all_watched, monkeypatch):
    set_image_limits(timeout=60)
    processes, start = [], decoder_process._Decoder.__init__
    monkeypatch.setattr(
        decoder_process._Decoder, "__init__", lambda process: (start(process), processes.append(process))[0]
    )
    monkeypatch.setattr(decoder_process, "_idle", [])
    image = decode_image(save(RGB, tmp_path / "a.png"))
    processes[0]._process.kill()
    with pytest.raises(ImageError, match="broke down"):
        whole(image)


def test_a_process_reads_as_this_one_does(tmp_path, all_watched):
    turned = save(RGB, tmp_path / "turned.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0")
    paths = [save(RGB, tmp_path / "a.png"), turned, save(RGB[..., 0], tmp_path / "é 猫.tif")]
    set_image_limits(timeout=60)
    there = [(read_image(p), read_mask(p), read_header(p)) for p in paths]
    with pytest.raises(ImageError) as there_missing:
        read_image(tmp_path / "missing")
    set_image_limits(timeout=0)
    for path, (pixels, mask, header) in zip(paths, there, strict=True):
        assert np.array_equal(pixels, read_image(path))
        assert pixels.flags.writeable
        assert np.array_equal(mask, read_mask(path))
        assert header == read_header(path)
    with pytest.raises(ImageError) as here_missing:
        read_image(tmp_path / "missing")
    assert str(there_missing.value) == str(here_missing.value)


@pytest.mark.slow
def test_a_process_that_waits_keeps_no_pixels(tmp_path, all_watched):
    path = save(np.zeros((4000, 4000), np.uint8), tmp_path / "a.png")
    set_image_limits(timeout=60)
    read_image(path)
    (decoder,) = decoder_process._idle
    status = Path(f"/proc/{decoder._process.pid}/status")
    if not status.exists():
        pytest.skip("tells no memory of processes")
    limit, end = 3 * 4000 * 4000 // 1024 + 80_000, time.monotonic() + 120
    while (held := int(status.read_text().split("VmRSS:")[1].split()[0])) > limit and time.monotonic() < end:
        time.sleep(0.05)
    assert held < limit


@pytest.mark.slow
def test_a_process_keeps_the_budget_of_this_one(tmp_path, all_watched):
    path = save(RGB, tmp_path / "a.png")
    set_image_limits(timeout=60)
    with memory_for_images(need(path) // 2), pytest.raises(ImageError, match="--memory"):
        read_image(path)
    with memory_for_images(decoding.IMAGE_MEMORY) as room:
        other = save(RGB[::-1].copy(), tmp_path / "b.png")
        assert np.array_equal(read_image(other), RGB[::-1])
        assert room.largest == need(path) + decoding._PROCESS


@pytest.mark.slow
def test_a_process_that_breaks_down_is_one_error(tmp_path, all_watched):
    path = save(RGB, tmp_path / "a.png")
    set_image_limits(timeout=60)
    read_image(path)
    for decoder in decoder_process._idle:
        decoder._process.kill()
        decoder._process.wait()
    assert np.array_equal(read_image(path), RGB)  # by another one


@pytest.mark.slow
def test_processes_end_with_the_program(tmp_path):
    path = save(RGB, tmp_path / "a.png")
    script = (
        "import sys; from oddsight.data import decoding, decoder_process; from oddsight.data.images import read_image; "
        "decoding._CHEAP = -1.0; read_image(sys.argv[1]); print(decoder_process._idle[0]._process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_limits_are_numbers(seconds):
    with pytest.raises(OddsightError):
        set_image_limits(timeout=seconds)
    with pytest.raises(OddsightError):
        set_image_limits(memory=0)


# Structure


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "ppm", "webp"])
def test_usual_files_are_read_without_a_process(tmp_path, suffix):
    path = save(np.zeros((600, 800, 3), np.uint8), tmp_path / f"a.{suffix}")
    assert seconds_to_read(path) < 0.5
    assert seconds_to_read(path.read_bytes()) == seconds_to_read(path)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{"rows": 1}, {"tile": (16, 16)}])
def test_a_file_of_many_strips_or_tiles_is_watched(tmp_path, layout):
    """Each takes its time, however small the file: 65,000 strips of a byte took 17 seconds."""
    values = np.zeros((2000, 160, 1), np.uint8)
    path = write(tmp_path / "a.tif", page(values, 1, compression=8, **layout))
    assert seconds_to_read(path) > 60
    assert np.array_equal(read_image(path)[..., 0], values[..., 0])


def test_a_photograph_is_read_without_a_process(tmp_path):
    assert seconds_to_read(noise_jpeg(tmp_path / "a.jpg", 1500)) < decoding.IMAGE_TIMEOUT * decoding._CHEAP
    assert seconds_to_read(noise_jpeg(tmp_path / "b.jpg", 1000, progressive=True)) < decoding.IMAGE_TIMEOUT / 10


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "ppm", "webp"])
def test_files_cut_short_anywhere_are_judged(tmp_path, suffix):
    path = save(RGB, tmp_path / f"a.{suffix}")
    content = path.read_bytes()
    for length in range(len(content)):
        assert seconds_to_read(content[:length]) >= 0


def test_a_tiff_whose_pages_go_in_a_circle_is_no_trouble(tmp_path):
    content = bytearray(tiff_of_pages(tmp_path / "a.tif", 2).read_bytes())
    page = 2 + 9 * 12 + 4
    content[12 + 2 * page - 4 : 12 + 2 * page] = (12).to_bytes(4, "little")
    assert seconds_to_read(bytes(content)) > 0


def test_what_is_no_image_takes_no_time(tmp_path):
    (tmp_path / "text").write_text("hello")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "text", "a\0b"):
        assert seconds_to_read(path) == 0
