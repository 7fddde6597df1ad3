"""What a service does under load, on this machine: images a second, waiting times, refusals and memory.

    python benchmarks/serving.py MODEL.onnx IMAGE [--seconds 60] [--kills 50] [--cases 2000]

First ``predict_many`` scores copies of the image (one image a core), and batches of four (one run on all cores), which
says which of the two is faster. Then a service is started in a process of its own, and clients in another one
(``http_load.py``, whose processor time is reported separately) ask for 1, 2 and 5 times as many images a second as
``predict_many`` scores, each as soon as its turn comes, without waiting for the others. Before and after each load
``predict_many`` scores again for a third of the time, so that a machine that gets slower or faster is seen, and the
load is compared with the mean of both. With ``--apart`` the clients get the last processor for themselves, and the
service and ``predict_many`` the others. Writes ``serving.csv``, or with ``--apart`` ``serving_apart.csv``, or what
``--table`` says.

With ``--kills`` a service is killed again and again while answers are given, and every answer that was confirmed must
still be there: ``serving_kills.csv``. With ``--cases`` Schemathesis makes at least so many requests of the OpenAPI
description, and no answer may be a 5xx: ``serving_cases.csv``.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import oddsight
from oddsight.runtime.parallel import cores
from oddsight.runtime.sessions import session
from oddsight.sources import Encoded

HERE = Path(__file__).parent
LOADS = (1, 2, 5)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--table", help="name of the file beside this one")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--cases", type=int, default=0)
    args = parser.parse_args()
    if args.kills:
        write("serving_kills.csv", [kill(args.model, args.image, args.kills)])
        return
    if args.cases:
        write("serving_cases.csv", [make_cases(args.model, args.cases)])
        return
    table = args.table or ("serving_apart.csv" if args.apart else "serving.csv")
    measure(args.model, args.image, args.seconds, table, apart=args.apart)


def measure(model: Path, image: Path, seconds: float, table: str, *, apart: bool) -> None:
    """Put a service under load, and write the table."""
    every = sorted(os.sched_getaffinity(0))
    server, client = (every[:-1], every[-1:]) if apart else (every, every)
    os.sched_setaffinity(0, server)
    before = many(model, image, seconds / 3)
    rows = [
        {"load": "predict_many", "processors": len(server), "images a second": before},
        {"load": "batches of 4", "processors": len(server), "images a second": batches(model, image, seconds / 3)},
    ]
    with Service(model) as service:
        service.ask(image.read_bytes())
        for times in LOADS:
            os.sched_setaffinity(0, client)
            outcome = load(service, image, times, before, seconds)
            os.sched_setaffinity(0, server)
            after = many(model, image, seconds / 3)
            rows += [
                described(times, outcome, (before + after) / 2, len(server)),
                {"load": "predict_many", "processors": len(server), "images a second": after},
            ]
            print(rows[-2:], flush=True)
            before = after
    write(table, rows)


def many(path: Path, image: Path, seconds: float) -> float:
    """Images a second of ``predict_many``."""
    model, content = oddsight.load(path), image.read_bytes()
    list(model.predict_many(Encoded({str(n): content for n in range(8)})))
    done, begin = 0, time.monotonic()
    while time.monotonic() - begin < seconds:
        done += sum(1 for _ in model.predict_many(Encoded({str(n): content for n in range(32)})))
    return done / (time.monotonic() - begin)


def batches(path: Path, image: Path, seconds: float) -> float:
    """Images a second if four of one size, which have been decoded, run together on all cores."""
    pixels = oddsight.Frame(image).read()
    loaded = session(path.read_bytes(), threads=cores())
    loaded.run(["score"], {"image": np.stack([pixels] * 4)})
    done, begin = 0, time.monotonic()
    while time.monotonic() - begin < seconds:
        stacked = np.stack([oddsight.Frame(image).read() for _ in range(4)])
        done += len(loaded.run(None, {"image": stacked})[0])
    return done / (time.monotonic() - begin)


class Service:
    """A service in a process of its own."""

    def __init__(self, model: Path, workspace: Path | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        more = [] if workspace is None else ["--workspace", str(workspace)]
        command = [sys.executable, "-m", "oddsight", "serve", str(model), "--port", str(self.port), "--quiet", *more]
        self.name = model.stem
        self.process = subprocess.Popen(command)

    def __enter__(self) -> Service:
        while True:
            try:
                self.request("GET", "/v2/health/ready")
                return self
            except OSError:
                time.sleep(0.1)

    def __exit__(self, *exception: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and content of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            kind = {"Content-Type": "application/json"} if (body or b"").startswith(b"{") else {}
            connection.request(method, path, body, kind)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, content: bytes) -> int:
        """Have an image scored."""
        return self.request("POST", f"/api/models/{self.name}:predict", content)[0]

    def start_clients(self, image: Path, requests: int, *more: str) -> subprocess.Popen[bytes]:
        """Have clients ask for the score of an image; what they print says what came of it."""
        path = f"/api/models/{self.name}:predict"
        command = [sys.executable, str(HERE / "http_load.py"), str(self.port), path, str(image)]
        return subprocess.Popen([*command, "--requests", str(requests), *more], stdout=subprocess.PIPE)

    def cpu_seconds(self) -> float:
        """Seconds of processor time that it took so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Megabytes in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1e3


@dataclass
class Load:
    """What came of a load.

    Attributes:
        outcomes: Statuses and seconds of all requests.
        seconds: That it took.
        memory: Megabytes of the service by time.
        service_cpu: Seconds of processor time that the service took.
        client_cpu: And the clients.
        queue: How many images may wait.
    """

    outcomes: list[tuple[int, float]]
    seconds: float
    memory: list[float]
    service_cpu: float
    client_cpu: float
    queue: int


def load(service: Service, image: Path, times: int, capacity: float, seconds: float) -> Load:
    """Ask at a steady rate, whether or not earlier requests have been answered."""
    rate = times * capacity
    before = service.cpu_seconds()
    clients = service.start_clients(image, int(seconds * rate), "--rate", str(rate))
    memory = [service.memory()]
    with ThreadPoolExecutor(1) as thread:
        said = thread.submit(clients.communicate)
        while not said.done():
            memory.append(service.memory())
            time.sleep(0.5)
    found = json.loads(said.result()[0])
    took = service.cpu_seconds() - before
    queue = json.loads(service.request("GET", "/api/status")[1])["limits"]["queue"]
    return Load(found["outcomes"], found["seconds"], memory, took, found["cpu seconds"], queue)


def described(times: int, found: Load, capacity: float, processors: int) -> dict[str, object]:
    """A row of the table."""
    counts = Counter(code for code, _ in found.outcomes)
    waits = [wait for code, wait in found.outcomes if code == 200]
    half = len(found.memory) // 2
    return {
        "load": f"{times}x", "processors": processors, "images a second": len(waits) / found.seconds,
        "of predict_many": len(waits) / found.seconds / capacity, "seconds": round(found.seconds, 1),
        "accepted": counts[200], "refused (429)": counts[429],
        "5xx": sum(n for code, n in counts.items() if code >= 500), "lost": counts[0],
        "p50 seconds": float(np.quantile(waits, 0.5)), "p99 seconds": float(np.quantile(waits, 0.99)),
        "seconds of (queue + 1) services": (found.queue + 1) * processors / capacity,
        "CPU seconds of the service": found.service_cpu, "CPU seconds of the clients": found.client_cpu,
        "MB at the start": found.memory[0], "MB in the middle": found.memory[half], "MB at the end": found.memory[-1],
        "MB at most": max(found.memory),
    }  # fmt: skip


def kill(model: Path, image: Path, times: int) -> dict[str, object]:
    """Kill a service while answers are given, and look for each that was confirmed."""
    confirmed, content = 0, image.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        workspace, ids = Path(folder), set[str]()
        for number in range(times + 1):
            with Service(model, workspace) as service:
                status, text = service.request("GET", "/api/feedback?limit=10000")
                assert status == 200
                assert ids <= {entry["id"] for entry in json.loads(text)["items"]}, "an answer is lost"
                if number == times:
                    break
                begun = threading.Event()
                threading.Thread(target=_answer, args=(service, content, ids, begun.set), daemon=True).start()
                begun.wait()
                time.sleep(0.02 * (number % 10))
                service.process.kill()
                service.process.wait()
        from oddsight.serve.state import Database

        state = Database(workspace / "state.sqlite").check()
        confirmed = len(ids)
    return {"kills": times, "answers confirmed": confirmed, "answers lost": 0, "integrity check": state}


def _answer(service: Service, content: bytes, ids: set[str], begun: Callable[[], None]) -> None:
    try:
        text = service.request("POST", f"/api/models/{service.name}:predict", content)[1]
        result = json.loads(text)["results"][0]["id"]
        while True:
            body = json.dumps({"result_id": result, "truth": "normal"}).encode()
            status, text = service.request("POST", "/api/feedback", body)
            if status != 200:
                raise SystemExit(text)
            ids.add(json.loads(text)["id"])
            begun()
    except (OSError, http.client.HTTPException, ValueError):
        return


def make_cases(model: Path, cases: int) -> dict[str, object]:
    """Have Schemathesis make requests of the description, and count what was answered."""
    program = Path(sys.executable).with_name("schemathesis")
    with tempfile.TemporaryDirectory() as folder, Service(model, Path(folder) / "workspace") as service:
        address, report = f"http://127.0.0.1:{service.port}", Path(folder) / "report.json"
        paths = json.loads(service.request("GET", "/openapi.json")[1])["paths"]
        operations = sum(map(len, paths.values()))
        command = [
            str(program), "run", f"{address}/openapi.json", "--url", address, "--seed", "1",
            "--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing",
            "--max-examples", str(math.ceil(cases / operations)),
            "--exclude-path-regex", "events", "--request-timeout", "600", "--report", "json",
            "--report-json-path", str(report),
        ]  # fmt: skip
        subprocess.run(command, cwd=folder, check=False)
        made = json.loads(report.read_text())
        lines = service.request("GET", "/metrics")[1].decode().splitlines()
    found = [re.search(r'^oddsight_requests_total\{.*status="(\d)\d\d"\} (\S+)', line) for line in lines]
    answers = Counter[str]()
    for match in filter(None, found):
        answers[f"{match[1]}xx"] += int(float(match[2]))
    return {
        "schemathesis": made["schemathesis_version"], "seed": made["seed"], "operations": operations,
        "cases": made["test_cases"]["generated"], "failures": made["test_cases"]["unique_failures"],
        "errors": made["test_cases"]["errored"], **{kind: answers[kind] for kind in ("2xx", "3xx", "4xx", "5xx")},
    }  # fmt: skip


def write(name: str, rows: list[dict[str, object]]) -> None:
    """Write a table."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (HERE / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{v:.4g}" if isinstance(v, float) else v for key, v in row.items()})


if __name__ == "__main__":
    main()
