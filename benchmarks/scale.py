"""What scoring by the million costs, and what it survives, on one machine with a Ray of its own and a store of its own.

    python benchmarks/scale.py PART DATA WORK >> benchmarks/scale.csv

PART is one of:

- ``overhead``: 20,000 images of CIFAR-10 by both engines with two workers; images a second and processor time an image,
  from the fourth shard to the last, and the time before the first. Two rounds, one after the other. The rows "overhead
  at niceness 15" are of RAY_worker_niceness=15, which is Ray's own, beside other programs.
- ``manifest``: a list of 1,000,000 names: seconds and peak memory to plan it, and to plan what is missing of it.
- ``memory``: memory of a worker, a thread and on Ray, after 10,000, 50,000 and 100,000 images.
- ``workers``: 20 worker processes of a run on Ray are killed, one by one; and the time of a rerun of what is finished.
- ``driver``: a run is killed at 10 random moments, and continued each time; and the same time.
- ``store``: images in a store that answers with errors, too late or with half of the content, 5 times in 100.

DATA holds ``cifar10`` (Parquet files as on the Hugging Face hub). IMAGES in the environment stands for 20,000 in
``overhead``, ``memory``, ``workers`` and ``driver``. Rows are: part, engine, measure, value.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import oddsight
from oddsight.scale import predict_batch, summarize

HERE = Path(__file__).parent
COUNT, KILLED_WORKERS, KILLED_DRIVERS = int(os.environ.get("IMAGES", "20000")), 20, 10
_TICKS = os.sysconf("SC_CLK_TCK")


def say(part: str, engine: str, **values: object) -> None:
    """Write rows of the table."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    for name, value in values.items():
        table.writerow([part, engine, name, f"{value:.4g}" if isinstance(value, float) else value])
    sys.stdout.flush()


def make_images(data: Path, work: Path, count: int) -> Path:
    """The first training images of CIFAR-10 as PNG files."""
    from pyarrow.parquet import ParquetFile

    folder = work / f"cifar-{count}"
    if folder.is_dir():
        return folder
    done = 0
    for batch in ParquetFile(data / "cifar10" / "train-00000-of-00001.parquet").iter_batches(1000):
        for cell in batch.column(0).to_pylist():
            if done == count:
                return folder
            place = folder / f"{done // 1000:02}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{done:05}.png").write_bytes(cell["bytes"])
            done += 1
    return folder


def make_model(images: Path, work: Path) -> Path:
    """A small model of the first images: EfficientNet-Lite0 at 32 pixels, some milliseconds an image."""
    path = work / "model.onnx"
    if not path.exists():
        oddsight.fit(*sorted((images / "00").iterdir())[:300], method="knn", size=32).save(path)
    return path


class Processors:
    """Seconds of processor time of this process and all that it started, also of those that have ended since."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        threading.Thread(target=self._look_on, daemon=True).start()

    def _look_on(self) -> None:
        while True:
            self.total()
            time.sleep(0.5)

    def total(self) -> float:
        """Until now."""
        for pid in descendants(os.getpid()):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            self._seconds[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
        return sum(list(self._seconds.values()))


def descendants(root: int) -> list[int]:
    """A process and those it started, and so on."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, at = [root], 0
    while at < len(found):
        found += children.get(found[at], [])
        at += 1
    return found


def overhead(data: Path, work: Path) -> None:
    """Both engines, in turn."""
    images = make_images(data, work, COUNT)
    model, processors = make_model(images, work), Processors()
    for turn in range(2):
        for engine in ("local", "ray"):
            marks: list[tuple[int, float, float]] = []

            def mark(phase: str, done: int, total: int, marks: list[tuple[int, float, float]] = marks) -> None:
                if phase == "scoring":
                    marks.append((done, time.monotonic(), processors.total()))

            out = work / f"overhead-{engine}-{turn}-{os.getpid()}"
            batch = predict_batch(
                str(model), [str(images)], out, engine=engine, workers=2, shard_images=250, progress=mark
            )
            (first, began, used), (last, ended, spent) = marks[3], marks[-1]
            assert batch.summary is not None and batch.summary.scored == COUNT
            say(
                f"overhead {turn}",
                engine,
                images_per_second=(last - first) / (ended - began),
                processor_ms_per_image=1000 * (spent - used) / (last - first),
                start_up_seconds=batch.start_up,
            )


def manifest(data: Path, work: Path) -> None:
    """A million names that differ, planned in a process of its own, whose memory is measured; nothing reads images."""
    names = work / "names.txt"
    draw = random.Random(0)
    with names.open("w") as file:
        for number in range(1_000_000):
            file.write(f"s3://archive/2024/{number // 10_000:03}/tile-{draw.getrandbits(32):08x}-{number:07}.jpg\n")
    code = (
        "import sys,time,resource\n"
        "from oddsight.scale.entries import list_entries\nfrom oddsight.scale.manifest import plan_manifest\n"
        "from oddsight.scale.job import Job, read_job, write_job\nfrom oddsight.runtime.stores import open_store\n"
        "store=open_store(sys.argv[2]); start=time.monotonic()\n"
        "with plan_manifest(list_entries([sys.argv[1]])) as plan:\n"
        "    stored=plan.path.stat().st_size\n"
        "    job=Job([], '', '', 1000, plan.digest, plan.entries, plan.size, plan.shards)\n"
        "    store.write(job.manifest_name, plan.path); write_job(store, job)\n"
        "planned=time.monotonic(); cpu=time.process_time()\n"
        "for n in range(0, job.shards, 2): store.write(job.part_name(n), b'')\n"
        "begun=time.monotonic(); job=read_job(store)\n"
        "missing=set(range(job.shards))-job.done(store)\nassert len(missing)==500\n"
        "peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024\n"
        "print(planned-start, cpu, time.monotonic()-begun, peak, stored/plan.entries)\n"
    )
    out = work / f"manifest-{os.getpid()}"
    done = subprocess.run([sys.executable, "-c", code, names, out], capture_output=True, text=True, check=True)
    plan, cpu, resume, peak, size = map(float, done.stdout.split())
    say("manifest", "local", keys=1_000_000, plan_seconds=plan, plan_processor_seconds=cpu, resume_seconds=resume,
        peak_megabytes=peak, bytes_per_name=size)  # fmt: skip


def memory(data: Path, work: Path) -> None:
    """20,000 images, listed five times, as 100 shards: one worker, in a thread and on Ray.

    A shard knows the images that it has scored; the next one does not, so all are decoded and scored each time.
    """
    images = make_images(data, work, COUNT)
    model = make_model(images, work)
    names = work / "five-times.txt"
    names.write_text("".join(f"{path}\n" for path in sorted(images.rglob("*.png"))) * 5)
    for engine in ("local", "ray"):
        resident: dict[int, float] = {}

        def mark(phase: str, done: int, total: int, resident: dict[int, float] = resident) -> None:
            if phase == "scoring" and done in (COUNT // 2, 5 * COUNT // 2, 5 * COUNT):
                at_work = [pid for pid in descendants(os.getpid()) if _title(pid).startswith("ray::")]
                resident[done] = max(map(_resident, at_work or [os.getpid()]))

        out = work / f"memory-{engine}-{os.getpid()}"
        shard = COUNT // 20
        predict_batch(str(model), [str(names)], out, engine=engine, workers=1, shard_images=shard, progress=mark)
        say("memory", engine, **{f"megabytes_after_{done}": size for done, size in resident.items()})


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def command(model: Path, images: Path, out: Path, *more: str) -> list[str]:
    """``oddsight predict --out`` of small shards."""
    options = ["--out", str(out), "--resume", "--shard-images", "20", "-q", *more]
    return [sys.executable, "-m", "oddsight", "predict", str(model), str(images), *options]


def check_rows(out: Path, images: Path, plain: Path) -> None:
    """Every image exactly once, in files of the same bytes as those of a run that nothing disturbed."""
    from pyarrow.parquet import ParquetFile

    rows = Counter(
        path for file in (out / "scores").glob("*.parquet") for path in ParquetFile(file).read(["path"])[0].to_pylist()
    )
    assert rows == Counter(map(str, images.rglob("*.png"))), "images are missing or there twice"
    files = [{file.name: file.read_bytes() for file in (place / "scores").glob("*.parquet")} for place in (out, plain)]
    assert files[0] == files[1], "results differ from those of a run that nothing disturbed"


def undisturbed(model: Path, images: Path, work: Path) -> Path:
    """The results of a run that nothing disturbs."""
    out = work / f"undisturbed-{os.getpid()}"
    subprocess.run(command(model, images, out), check=True)
    return out


def rerun(model: Path, images: Path, out: Path, *more: str) -> float:
    """Seconds of the command for a job that is finished."""
    start = time.monotonic()
    subprocess.run(command(model, images, out, *more), check=True)
    return time.monotonic() - start


def workers(data: Path, work: Path) -> None:
    """Kill worker processes of one run."""
    images = make_images(data, work, COUNT)
    model, out = make_model(images, work), work / f"workers-{os.getpid()}"
    on_ray = ("--engine", "ray", "--workers", "2")
    draw, killed = random.Random(0), 0
    with subprocess.Popen(command(model, images, out, *on_ray)) as driver:
        while driver.poll() is None:
            time.sleep(draw.uniform(0.5, 3))
            at_work = [pid for pid in descendants(driver.pid) if _title(pid).startswith("ray::_run")]
            if at_work and killed < KILLED_WORKERS:
                os.kill(draw.choice(at_work), signal.SIGKILL)
                killed += 1
    check_rows(out, images, undisturbed(model, images, work))
    took = rerun(model, images, out, *on_ray)
    say("workers", "ray", killed=killed, exit_code=driver.returncode, images=COUNT, rerun_of_finished_seconds=took)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def driver(data: Path, work: Path) -> None:
    """Kill a run again and again, on Ray twice: five times in its first seconds, five times after some more shards."""
    images = make_images(data, work, COUNT)
    model, out = make_model(images, work), work / f"driver-{os.getpid()}"
    draw, killed, at = random.Random(1), Counter[str](), list[int]()
    for number in range(KILLED_DRIVERS):
        engine = "ray" if number in (3, 6) else "local"
        target, moment = _parts(out) + draw.randint(1, 150), time.monotonic() + draw.uniform(1, 8)
        with subprocess.Popen(command(model, images, out, "--engine", engine, "--workers", "2")) as run:
            while run.poll() is None and (time.monotonic() < moment if number % 2 == 0 else _parts(out) < target):
                time.sleep(0.01)
            if run.poll() is None:
                run.kill()
                killed[engine] += 1
        at.append(_parts(out))
    subprocess.run(command(model, images, out), check=True)
    check_rows(out, images, undisturbed(model, images, work))
    say("driver", "both", killed_local=killed["local"], killed_ray=killed["ray"], images=COUNT,
        shards=_parts(out), shards_at_each_kill=" ".join(map(str, at)),
        rerun_of_finished_seconds=rerun(model, images, out))  # fmt: skip


def _parts(out: Path) -> int:
    return len(list((out / "scores").glob("*.parquet")))


def store(data: Path, work: Path) -> None:
    """2,000 images in a store that fails."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from failing_store import FailingStore

    images = make_images(data, work, 2000)
    model = make_model(make_images(data, work, COUNT), work)
    with FailingStore(rate=0.05, seed=0, patience=10) as server:
        for path in sorted(images.rglob("*.png")):
            server.put(f"images/{path.relative_to(images)}", path.read_bytes())
        server.fail()
        batch = predict_batch(str(model), ["s3://bucket/images"], "s3://bucket/scores", workers=2, shard_images=100)
        assert batch.summary is not None
        plain = predict_batch(str(model), [str(images)], work / f"store-{os.getpid()}", shard_images=100)
        reads = server.reads("images/")
        server.mend()
        same = _scores("s3://bucket/scores") == _scores(str(work / f"store-{os.getpid()}"))
    assert plain.summary is not None
    say("store", "local", images=2000, scored=batch.summary.scored, failed=batch.summary.failed,
        injected=server.injected, reads_per_image=reads / 2000, same_scores=same)  # fmt: skip


def _scores(place: str) -> dict[str, float]:
    return {row.path.rpartition("/")[2]: row.score for row in summarize(place, most=1000).most_anomalous}


def main() -> None:
    """Run one part."""
    part, data, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    work.mkdir(parents=True, exist_ok=True)
    parts = {run.__name__: run for run in (overhead, manifest, memory, workers, driver, store)}
    parts[part](data, work)


if __name__ == "__main__":
    main()
