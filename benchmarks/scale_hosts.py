"""Scoring on several hosts: network namespaces of one machine, each with processes, shared memory and a Ray of its own.

    python benchmarks/scale_hosts.py DATA WORK >> benchmarks/scale.csv

It needs Linux, the rights of root, and ip, unshare and nsenter. Three hosts with one processor each and a bridge
between them score 20,000 images (or IMAGES of the environment) of CIFAR-10; one of them is killed when a third of the
shards is done. A fourth host tries to join with another token, and to start a run without a Ray of its own.
DATA and the columns are those of ``scale.py``.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scale import COUNT, _parts, _title, check_rows, command, descendants, make_images, make_model, say, undisturbed

HOSTS = 3
HEAD = "10.213.0.10"
BIN = Path(sys.executable).parent

# What a host sees: processes, shared memory and Ray's sockets of its own, and the network that it was given.
_START = "mount -t tmpfs none /dev/shm && mount -t tmpfs none /tmp/ray && exec sleep infinity"


def sh(*words: object) -> None:
    """Run a program that must succeed."""
    subprocess.run(list(map(str, words)), check=True)


class Host:
    """A network namespace with an address on the bridge, and a process that holds its other namespaces."""

    def __init__(self, number: int) -> None:
        self.name, self.address = f"oddsight{number}", f"10.213.0.{10 + number}"
        sh("ip", "netns", "add", self.name)
        sh("ip", "link", "add", f"odd{number}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        sh("ip", "link", "set", f"odd{number}", "master", "oddsight", "up")
        sh("ip", "-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            sh("ip", "-n", self.name, "link", "set", device, "up")
        own = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "sh", "-c", _START]
        self.holder = subprocess.Popen(["ip", "netns", "exec", self.name, *own])
        while not (held := [pid for pid in descendants(self.holder.pid) if _title(pid).startswith("sleep")]):
            time.sleep(0.1)
        self.pid = held[0]

    def words(self, *words: object) -> list[str]:
        """A command on this host."""
        own = ["nsenter", "--target", self.pid, "--mount", "--uts", "--ipc", "--net", "--pid"]
        return list(map(str, [*own, *words]))

    def start(self, token: str, *words: object, stderr: int | None = None) -> subprocess.Popen[str]:
        """A program on this host, which ends after an hour."""
        told = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}
        return subprocess.Popen(
            self.words("timeout", 3600, *words),
            env=os.environ | told | {"RAY_worker_niceness": "0"}, stdout=sys.stderr, stderr=stderr, text=True,
        )  # fmt: skip

    def start_ray(self, token: str) -> subprocess.Popen[str]:
        """Begin a cluster at the address of the head, or join it."""
        where = ["--head", "--port=6379", "--include-dashboard=false"] if self.address == HEAD else [
            f"--address={HEAD}:6379"]  # fmt: skip
        words = [BIN / "ray", "start", *where, f"--node-ip-address={self.address}", "--num-cpus=1"]
        return self.start(token, *words)

    def kill(self) -> None:
        """All of its processes, at once: those of a namespace end with its first."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def remove(self) -> None:
        """All that is left of it."""
        self.kill()
        self.holder.wait()
        sh("ip", "netns", "delete", self.name)


@contextmanager
def network(count: int) -> Iterator[list[Host]]:
    """Some hosts, and the bridge between them."""
    Path("/tmp/ray").mkdir(exist_ok=True)
    sh("ip", "link", "add", "oddsight", "type", "bridge")
    sh("ip", "link", "set", "oddsight", "up")
    hosts: list[Host] = []
    try:
        for number in range(count):
            hosts.append(Host(number))
        yield hosts
    finally:
        for host in hosts:
            host.remove()
        sh("ip", "link", "delete", "oddsight")


def main() -> None:
    """Start the hosts, score, and kill one."""
    data, work = Path(sys.argv[1]), Path(sys.argv[2])
    images = make_images(data, work, COUNT)
    model, out = make_model(images, work), work / f"hosts-{os.getpid()}"
    token, to_cluster = secrets.token_hex(32), ("--engine", "ray", "--address", f"{HEAD}:6379")
    with network(HOSTS + 1) as (head, *others, outsider):
        for host in (head, *others):
            assert host.start_ray(token).wait() == 0, f"no Ray on {host.name}"
        join = outsider.start_ray(secrets.token_hex(32))
        start, busy, lost = time.monotonic(), set[str](), 0
        with head.start(token, *command(model, images, out, *to_cluster)) as run:
            while run.poll() is None:
                time.sleep(0.2)
                for host in (head, *others):
                    if any(_title(pid).startswith("ray::_run") for pid in descendants(host.holder.pid)):
                        busy.add(host.name)
                if not lost and _parts(out) > COUNT // 60:
                    others[-1].kill()
                    lost = 1
        took = time.monotonic() - start
        words = command(model, images, work / f"outside-{os.getpid()}", *to_cluster)
        told = outsider.start(token, *words, stderr=subprocess.PIPE).communicate()[1]
        joined = join.wait() == 0
    print(told, file=sys.stderr)
    check_rows(out, images, undisturbed(model, images, work))
    say("hosts", "ray", hosts=HOSTS, hosts_that_scored=len(busy), hosts_lost=lost, exit_code=run.returncode,
        images=COUNT, seconds=took, joined_with_another_token=joined,
        refused_without_ray="does not answer" in told)  # fmt: skip


if __name__ == "__main__":
    main()
