"""Files are written whole, reach the disk, keep their permissions, and leave nothing when a writer is killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from cli_files import command, environment, heed_signals, many_links, run, start, strict_json
from oddsight.errors import OddsightError
from oddsight.runtime import files
from oddsight.runtime.files import (
    atomic_folder,
    atomic_write,
    check_writable,
    lock_folder,
    make_folder,
    remove_dead_parts,
    write_bytes,
)
from textures import write_textures
from tiny_model import tiny_model

pytest.importorskip("fcntl")

WRITER = """
import sys, time
from pathlib import Path
from oddsight.runtime.files import atomic_folder, atomic_write
path = Path(sys.argv[2])
with (atomic_write if sys.argv[1] == "file" else atomic_folder)(path) as place:
    if sys.argv[1] == "file":
        place.write(b"half")
        place.flush()
    else:
        (place / "half").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


def writer(kind, path):
    """A process that is in the middle of writing."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, kind, path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    return process


def killed(process):
    process.kill()
    process.wait()
    process.stdout.close()


def parts(folder):
    return sorted(path.name for path in folder.glob(".*.part"))


@pytest.mark.slow
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path):
    first, second = (writer("file", tmp_path / "a") for _ in range(2))
    other = writer("file", tmp_path / "b")
    assert len(parts(tmp_path)) == 3
    for process in (first, second, other):
        killed(process)
    assert len(parts(tmp_path)) == 3
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert len(parts(tmp_path)) == 1, "that of another file is not this one's business"
    check_writable(tmp_path / "b")
    assert parts(tmp_path) == []


def test_what_is_still_written_stays(tmp_path):
    alive = writer("file", tmp_path / "a")
    try:
        [part] = parts(tmp_path)
        write_bytes(tmp_path / "a", b"new")
        check_writable(tmp_path / "a")
        remove_dead_parts(tmp_path)
        assert parts(tmp_path) == [part]
        assert (tmp_path / part).read_bytes() == b"half"
        with atomic_write(tmp_path / "a") as one, atomic_write(tmp_path / "a") as two:
            one.write(b"1")
            two.write(b"2")
        assert (tmp_path / "a").read_bytes() == b"1", "the last one to end"
    finally:
        killed(alive)
    remove_dead_parts(tmp_path)
    assert parts(tmp_path) == []


def test_folders_are_the_same(tmp_path):
    dead = writer("folder", tmp_path / "a")
    [part] = parts(tmp_path)
    killed(dead)
    assert (tmp_path / part / "half").exists()
    with atomic_folder(tmp_path / "a") as place:
        (place / "sub").mkdir()
        (place / "sub" / "whole").write_bytes(b"x")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a", "a/sub", "a/sub/whole"]


def test_parts_of_others_and_links_are_left_alone(tmp_path):
    """Names that look like ours but are no temporary files of this file system."""
    target = tmp_path / "kept"
    target.write_bytes(b"kept")
    names = [Path(name) for name in files._temporary_names(tmp_path / "a")]
    names[0].symlink_to(target)
    os.mkfifo(names[1])
    write_bytes(tmp_path / "a", b"new")
    remove_dead_parts(tmp_path)
    assert target.read_bytes() == b"kept"
    assert names[0].is_symlink()
    assert names[1].is_fifo()
    assert (tmp_path / "a").read_bytes() == b"new"


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def synced(handle):
        mode = os.fstat(handle)
        calls.append("folder" if stat.S_ISDIR(mode.st_mode) else f"file of {mode.st_size} bytes")
        fsync(handle)

    def replaced(*paths):
        calls.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_bytes(tmp_path / "a", b"12345")
    assert calls == ["file of 5 bytes", "rename", "folder"]
    calls.clear()
    with atomic_write(tmp_path / "a", durable=False) as file:
        file.write(b"x")
    assert calls == ["rename"]
    calls.clear()
    with atomic_folder(tmp_path / "b") as place:
        (place / "c").write_bytes(b"123")
    assert calls == ["file of 3 bytes", "folder", "folder"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o606])
def test_permissions_stay(tmp_path, mode):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_bytes(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


def test_new_files_have_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"new")
        with atomic_folder(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_stays(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    os.chown(path, 1234, 2345)
    write_bytes(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


def test_a_read_only_file_is_not_replaced(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o444)
    for attempt in (lambda: write_bytes(path, b"new"), lambda: check_writable(path)):
        with pytest.raises(OddsightError, match=r"cannot write .*a: it is read-only"):
            attempt()
    assert path.read_bytes() == b"old"
    assert parts(tmp_path) == []


def test_links_stay_where_a_user_names_them_and_go_in_folders_of_results(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    write_bytes(link, b"own", follow_links=False)
    assert not link.is_symlink()
    assert (link.read_bytes(), target.read_bytes()) == (b"own", b"new")


def test_folders_inside_folders_of_results_are_no_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "figures").symlink_to(tmp_path / "elsewhere")
    make_folder(tmp_path / "figures")
    with pytest.raises(OddsightError, match="it is a link to elsewhere"):
        make_folder(tmp_path / "figures", follow_links=False)
    make_folder(tmp_path / "new", follow_links=False)
    assert (tmp_path / "new").is_dir()


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="stop"), atomic_write(path) as file:
        file.write(b"half")
        raise ValueError("stop")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_one_process_s(tmp_path):
    with lock_folder(tmp_path) as alone, lock_folder(tmp_path) as again:
        assert (alone, again) == (True, False)
    with lock_folder(tmp_path) as alone:
        assert alone


# The command line


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_textures(folder / "images", range(2), width=24, height=24)
    tiny_model().save(folder / "m.onnx")
    return folder


def shell(world, script):
    """A script of the shell in which "$@" predicts."""
    arguments = command("predict", world / "m.onnx", world / "images", "--quiet")
    return subprocess.run(
        ["bash", "-c", script, "bash", *arguments], env=environment(), capture_output=True, check=False, timeout=60
    )


def paths_of(text):
    return [Path(strict_json(line)["path"]).name for line in text.decode().splitlines()]


@pytest.mark.parametrize(
    "script",
    [
        '"$@" --json -',
        *(
            pytest.param(script, marks=pytest.mark.slow)
            for script in (
                '"$@" --json /dev/stdout',
                '"$@" --json /dev/stdout | cat',
                '"$@" --json /dev/fd/1',
                '"$@" --json /proc/self/fd/1',
                '{ "$@" --json >(cat >&3); wait $!; } 3>&1',
                'exec 5>&1; "$@" --json /dev/fd/5',
            )
        ),
    ],
)
def test_standard_output_by_any_name(world, script):
    done = shell(world, script)
    assert (done.returncode, done.stderr) == (0, b"")
    assert paths_of(done.stdout) == ["00000.png", "00001.png"]


@pytest.mark.slow
def test_what_the_shell_appends_to_is_appended_to(world, tmp_path):
    lines = tmp_path / "lines"
    lines.write_text(json.dumps({"path": "before"}) + "\n")
    done = shell(world, f'"$@" --json /dev/stdout >> {lines}')
    assert done.returncode == 0
    assert paths_of(lines.read_bytes()) == ["before", "00000.png", "00001.png"]


@pytest.mark.parametrize(
    "option", ["--json -", *(pytest.param(one, marks=pytest.mark.slow) for one in ("--json /dev/stdout", ""))]
)
def test_results_for_a_closed_output_are_an_error(world, option):
    done = shell(world, f'"$@" {option} >&-')
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert b"closed" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_a_closed_output_that_is_not_needed_is_none(world, tmp_path):
    done = shell(world, f'"$@" --json {tmp_path / "lines"} >&- 2>&-')
    assert done.returncode == 0
    assert paths_of((tmp_path / "lines").read_bytes()) == ["00000.png", "00001.png"]
    done = shell(world, f'"$@" --json {tmp_path / "lines"} <&- >&- 2>&-')
    assert done.returncode == 0
    assert paths_of((tmp_path / "lines").read_bytes()) == ["00000.png", "00001.png"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("script", ['"$@" --json /dev/full', '"$@" --json - > /dev/full'])
def test_a_full_device_is_an_error(world, script):
    done = shell(world, script)
    assert done.returncode == 1
    assert b"No space left" in done.stderr


def written(folder):
    """Whether something is in a file that is being written."""
    with suppress(FileNotFoundError):
        return any((folder / name).stat().st_size for name in parts(folder))
    return False


@pytest.mark.slow
def test_a_killed_command_leaves_nothing_for_long(world, tmp_path):
    many = many_links(tmp_path / "many", world / "images" / "00000.png", 5000)
    output = tmp_path / "lines"
    process = start("predict", world / "m.onnx", many, "--json", output, "--quiet")
    # The empty file that shows whether the folder can be written to goes at once.
    while not written(tmp_path):
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    assert len(parts(tmp_path)) == 1
    assert run("predict", world / "m.onnx", world / "images", "--json", output, "--quiet").code == 0
    assert parts(tmp_path) == []


def test_children_of_tests_heed_interruptions_though_this_process_does_not():
    """As in the background, where shells make processes deaf to them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        script = "import signal, sys; sys.exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)"
        done = subprocess.run([sys.executable, "-c", script], preexec_fn=heed_signals, check=False)
        deaf = subprocess.run([sys.executable, "-c", script], check=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, deaf.returncode) == (0, 1)
