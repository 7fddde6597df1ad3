"""Video files and folders of frames: every frame once, in order, the same each time; what is damaged is counted."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import oddsight
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.sources import Arrays, Blocks, FrameFolder, LiveStream, VideoFile, containers, open_frames
from oddsight.sources.source import known_length
from tiny_model import tiny_model
from video_files import footage, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """30 frames, 10 a second."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, footage(30))
    return path


def outcomes(source):
    """What a source yields, as something that can be compared."""
    return [
        (frame.path, frame.reason)
        if isinstance(frame, ImageError)
        else (frame.name, frame.time, frame.index, np.asarray(frame.image).tobytes())
        for frame in source
    ]


def test_frames_are_those_of_the_file(clip):
    source = VideoFile(clip)
    frames = list(source)
    assert [frame.name for frame in frames] == [f"{clip}#{number}" for number in range(30)]
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.time for frame in frames] == [number / 10 for number in range(30)]
    with av.open(str(clip)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert all(np.array_equal(frame.image, pixels) for frame, pixels in zip(frames, expected, strict=True))
    assert (source.width, source.height, source.rate, source.broken, known_length(source)) == (48, 48, 10, 0, 30)


@pytest.mark.parametrize("name", containers.FORMATS)
def test_every_format_is_one_of_ffmpeg(name):
    """A wrong name would switch a format off without a word."""
    assert av.ContainerFormat(name, "r").is_input


def test_a_file_is_the_same_each_time(clip):
    source = VideoFile(clip)
    assert outcomes(source) == outcomes(source) == outcomes(VideoFile(str(clip)))


@pytest.mark.slow
def test_scores_are_those_of_the_decoded_frames(clip):
    model = tiny_model()
    expected = [model.predict(np.array(frame.image)).score for frame in VideoFile(clip)]
    for workers in (1, 2):
        results = list(model.predict_many(VideoFile(clip), workers=workers))
        assert [result.score for result in results] == expected
        assert [result.index for result in results] == list(range(30))
    assert len(set(expected)) > 1


@pytest.mark.parametrize(("every", "indices"), [(0.5, range(0, 30, 5)), (1, [0, 10, 20]), (0.25, [0, 3, 5, 8, 10, 13])])
def test_one_frame_in_so_much_time(clip, every, indices):
    found = [frame.index for frame in VideoFile(clip, every=every)]
    assert found[: len(indices)] == list(indices)
    assert len(found) <= known_length(VideoFile(clip, every=every)) <= len(found) + 1


@pytest.mark.parametrize("turn", [0, 90, 180, -90])
def test_a_rotated_video_is_shown_upright(turn, tmp_path):
    frames = [np.pad(pixels, ((0, 16), (0, 0), (0, 0))) for pixels in footage(2)]
    write_video(tmp_path / "plain.mp4", frames)
    write_video(tmp_path / "turned.mp4", frames, rotation=turn)
    for upright, turned in zip(VideoFile(tmp_path / "plain.mp4"), VideoFile(tmp_path / "turned.mp4"), strict=True):
        assert np.array_equal(turned.image, np.rot90(np.asarray(upright.image), turn // 90))


@pytest.mark.parametrize(("codec", "name"), [("mjpeg", "clip.avi"), ("mpeg4", "clip.mkv"), ("ffv1", "clip.nut")])
def test_other_codecs_and_containers(codec, name, tmp_path):
    frames = [np.full((48, 64, 3), value, np.uint8) for value in (0, 128, 255)]
    write_video(tmp_path / name, frames, codec=codec)
    for frame, pixels in zip(VideoFile(tmp_path / name), frames, strict=True):
        assert np.abs(np.asarray(frame.image, int) - pixels).max() <= 3


@pytest.mark.parametrize(("sides", "start"), [((48, 48), 0), ((48, 64), 0), ((48, 48), 900)])
def test_the_time_of_joined_recordings_goes_on(sides, start, tmp_path):
    """As cameras do that begin a new recording, with times that begin anew and perhaps another size of frames."""
    parts = [tmp_path / "0.ts", tmp_path / "1.ts"]
    for number, (path, side) in enumerate(zip(parts, sides, strict=True)):
        write_video(path, footage(20, side=side, seed=number), container="mpegts", start=start * (1 - number))
    (tmp_path / "both.ts").write_bytes(b"".join(path.read_bytes() for path in parts))
    found = list(VideoFile(tmp_path / "both.ts"))
    assert [frame.image.shape[0] for frame in found] == [sides[0]] * 20 + [sides[1]] * 20
    assert [round(frame.time, 6) for frame in found] == [number / 10 for number in range(40)]
    assert [frame.index for frame in VideoFile(tmp_path / "both.ts", every=1)] == [0, 10, 20, 30]


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.ts", "clip.nut"])
def test_a_video_whose_times_do_not_start_at_0_is_whole(name, tmp_path):
    write_video(tmp_path / name, footage(30), start=3600)
    source = VideoFile(tmp_path / name)
    assert [round(frame.time, 6) for frame in source] == [number / 10 for number in range(30)]
    assert source.broken == 0
    assert known_length(source) == pytest.approx(30, abs=1)


def test_the_image_of_a_cover_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(path, "w") as container:
        sound = container.add_stream("aac", rate=48_000)
        cover = container.add_stream("png", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="fltp", layout="mono")
        quiet.sample_rate = 48_000
        container.mux(sound.encode(quiet))
        container.mux(sound.encode(None))
    with pytest.raises(ImageError, match="holds no video"):
        VideoFile(path)


def test_raw_frames_of_y4m_are_read(tmp_path):
    frame = b"FRAME\n" + bytes(16 * 16 * 3 // 2)
    (tmp_path / "clip.y4m").write_bytes(b"YUV4MPEG2 W16 H16 F10:1 C420jpeg\n" + 3 * frame)
    assert [frame.time for frame in VideoFile(tmp_path / "clip.y4m")] == [0, 0.1, 0.2]


def damaged(path, place, size):
    """Noise from a share of the file's frames on."""
    content = bytearray(path.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    at = start + int(place * (end - start))
    content[at : min(at + size, end)] = np.random.default_rng(0).bytes(min(size, end - at))
    path.write_bytes(content)


def test_a_damaged_frame_is_an_error_and_the_others_follow(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, footage(30))
    damaged(path, 0.5, 3000)
    source = VideoFile(path)
    found = list(source)
    errors = [frame for frame in found if isinstance(frame, ImageError)]
    assert 1 <= len(errors) == source.broken < 10
    assert len(found) == 30
    assert [frame.index for frame in found[-5:]] == [25, 26, 27, 28, 29]
    assert outcomes(source) == outcomes(VideoFile(path))
    results = list(tiny_model().predict_many(VideoFile(path)))
    assert sum(isinstance(result, ImageError) for result in results) == len(errors)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_a_video_that_is_cut_short_is_an_error_after_its_frames(tmp_path, name):
    whole, path = tmp_path / f"whole-{name}", tmp_path / name
    write_video(whole, footage(80), container="mov" if name.endswith("mp4") else None)
    if name.endswith("mp4"):  # with its index in front, as for the web
        fragments = {"movflags": "faststart"}
        with av.open(whole) as source, av.open(tmp_path / f"front-{name}", "w", options=fragments) as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        whole = tmp_path / f"front-{name}"
    assert len(list(VideoFile(whole))) == 80
    assert VideoFile(whole).broken == 0
    content = whole.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    *_, last = VideoFile(path)
    assert isinstance(last, ImageError)
    assert "cut short" in last.reason
    assert "of 8.0 s" in last.reason


def test_a_video_without_a_frame_that_can_be_decoded_is_an_error(tmp_path):
    path = tmp_path / "clip.avi"
    write_video(path, footage(30))
    content = path.read_bytes()
    start = content.index(b"movi")
    path.write_bytes(content[:start] + b"movi" + np.random.default_rng(0).bytes(5000))
    found = list(VideoFile(path))
    assert found
    assert all(isinstance(frame, ImageError) for frame in found)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(start=st.floats(0, 1), content=st.binary(min_size=1, max_size=300), kept=st.floats(0, 1))
def test_no_file_is_more_than_an_error(start, content, kept, tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "clip.mp4"
    write_video(path, footage(4))
    whole = bytearray(path.read_bytes())
    at = int(start * len(whole))
    whole[at : at + len(content)] = content
    path.write_bytes(whole[: max(1, int(kept * len(whole)))] if kept < 0.9 else whole)
    try:
        source = VideoFile(path)
    except ImageError as error:
        assert error.path == str(path)
        return
    assert outcomes(source) == outcomes(source)


def unknown_codec(path: Path) -> Path:
    write_video(path / "clip.avi", footage(2), codec="mjpeg")
    (path / "clip.avi").write_bytes((path / "clip.avi").read_bytes().replace(b"MJPG", b"zzzz"))
    return path / "clip.avi"


def of_bytes(content: bytes):
    def write(path: Path) -> Path:
        (path / "clip.mp4").write_bytes(content)
        return path / "clip.mp4"

    return write


PROBLEMS = {
    "missing": (lambda path: path / "no.mp4", "no such file"),
    "a folder": (lambda path: path, "is not a file"),
    "empty": (of_bytes(b""), "not a video that can be read"),
    "rubbish": (of_bytes(np.random.default_rng(0).bytes(5000)), "not a video that can be read"),
    "a playlist": (of_bytes(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd.ts\n"), "not a video that can be read"),
    "a list of files": (of_bytes(b"ffconcat version 1.0\nfile '/etc/passwd'\n"), "not a video that can be read"),
    "an unknown codec": (unknown_codec, "codec that this FFmpeg does not read: convert it to H.264"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_no_video_is_one_sentence(problem, tmp_path):
    make, words = PROBLEMS[problem]
    path = make(tmp_path)
    with pytest.raises(ImageError, match=words) as error:
        list(VideoFile(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_frames_that_are_too_large_are_refused(clip, monkeypatch):
    monkeypatch.setattr(containers, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="48 x 48 pixels, and at most 1,000 are read"):
        VideoFile(clip)


def test_without_pyav_the_error_says_what_to_install(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for make in (lambda: VideoFile(clip), lambda: LiveStream("http://127.0.0.1/x"), lambda: open_frames(clip)):
        with pytest.raises(OddsightError, match=r"pip install 'oddsight\[video\]'"):
            make()


@pytest.fixture
def frames_folder(tmp_path):
    for number in (10, 9, 1, 2):
        Image.fromarray(footage(1, seed=number)[0]).save(tmp_path / f"frame-{number}.png")
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / "frame-3.png").write_bytes(b"rubbish")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_its_numbers(frames_folder):
    source = FrameFolder(frames_folder, rate=2)
    frames = list(source)
    assert [Path(frame.name).stem for frame in frames] == [f"frame-{number}" for number in (1, 2, 3, 9, 10)]
    assert [frame.time for frame in frames] == [0, 0.5, 1, 1.5, 2]
    assert known_length(source) == 5
    results = list(tiny_model().predict_many(source))
    assert [isinstance(result, ImageError) for result in results] == [False, False, True, False, False]
    thinned = FrameFolder(frames_folder, rate=2, every=1)
    assert [frame.index for frame in thinned] == [0, 2, 4]
    assert known_length(thinned) == 3


def test_a_folder_without_frames_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        FrameFolder(tmp_path)
    with pytest.raises(DataError, match="not a folder of frames"):
        FrameFolder(tmp_path / "no")


def test_what_is_named_is_opened(clip, frames_folder):
    assert isinstance(open_frames(clip), VideoFile)
    assert isinstance(open_frames(str(frames_folder)), FrameFolder)
    assert open_frames("0").name == "camera 0"
    assert open_frames("rtsp://bob:pw@camera/1").name == "rtsp://camera/1"
    with pytest.raises(DataError, match="no such video file or folder of frames"):
        open_frames("no.mp4")
    with pytest.raises(DataError, match="is one image"):
        open_frames(frames_folder / "frame-1.png")


@pytest.mark.parametrize("every", [0, -1, float("nan"), "1s", True])
def test_times_are_checked(every, clip):
    with pytest.raises(OddsightError, match="every must be above 0"):
        VideoFile(clip, every=every)


@pytest.mark.slow
def test_blocks_are_the_groups_of_a_fit(clip, tmp_path):
    second = tmp_path / "b.mp4"
    write_video(second, footage(30, seed=1))
    blocks = Blocks(VideoFile(clip), VideoFile(second), seconds=0.25)
    plans = []
    model = oddsight.fit(
        blocks, groups=blocks.block_of, method="knn", size=32, calibration_fraction=0.4, on_plan=plans.append
    )
    plan = plans[0]
    assert known_length(blocks) == len(plan.images) == 60
    assert model.metadata.calibration.groups == len(plan.calibration) == 10
    learned = {image.group for image in plan.training}
    held = {image.group for image in plan.images} - learned
    assert len(learned) + len(held) == 24
    assert len(held) == 10
    assert {image.group for image in plan.calibration} == held
    by_group: dict[str, list[float]] = {}
    for image in plan.images:
        by_group.setdefault(image.group, []).append(blocks.times[image.path.as_posix()])
    assert all(max(times) - min(times) < 0.25 for times in by_group.values())


def test_blocks_need_names_and_times():
    with pytest.raises(DataError, match="names and times"):
        list(Blocks(Arrays(footage(2))))


@pytest.mark.parametrize(
    ("source", "setting"),
    [
        ("clip", {"rate": 5.0}),
        ("clip", {"max_staleness": 0.5}),
        ("folder", {"timeout": 5.0}),
        ("rtsp://camera/1", {"every": 1.0}),
        ("0", {"rate": 5.0}),
    ],
)
def test_settings_of_another_kind_of_source_are_refused(clip, frames_folder, source, setting):
    named = {"clip": clip, "folder": frames_folder}.get(source, source)
    option = "--" + next(iter(setting)).replace("_", "-")
    with pytest.raises(OddsightError, match=f"^{option} is not for"):
        open_frames(named, **setting)
