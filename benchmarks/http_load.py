"""Ask a service for scores over and over, at as little cost as may be, and say what came of it.

    python benchmarks/http_load.py PORT PATH IMAGE --requests 1000 [--rate 100] [--connections 96]

This is a process of its own with bare sockets that stay open and no HTTP library, so that the clients of a benchmark
take little from the service that they share the machine with. With a rate a request is sent whenever its turn comes, as
soon as a connection is free; without one each connection asks again as soon as it is answered. Prints JSON: statuses
and seconds of all requests (0 for one without an answer), what they took in all, and the CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import threading
import time
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Clients:
    """Connections, each in a thread, that share the turns to ask.

    Args:
        port: Of a service on this machine.
        request: The bytes of a request.
        count: How many requests are sent.
        rate: Requests a second; None for as many as are answered.
    """

    def __init__(self, port: int, request: bytes, count: int, rate: float | None) -> None:
        self._port, self._request, self._rate = port, request, rate
        self._turns, self._lock = iter(range(count)), threading.Lock()
        self.outcomes: list[tuple[int, float]] = []
        self._begin = time.monotonic()

    def run(self, connections: int) -> float:
        """Send all requests; the seconds that this took."""
        threads = [threading.Thread(target=self._work) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - self._begin

    def _work(self) -> None:
        connection = None
        while True:
            with self._lock:
                turn = next(self._turns, None)
            if turn is None:
                return
            if self._rate is not None:
                time.sleep(max(0.0, self._begin + turn / self._rate - time.monotonic()))
            start = time.monotonic()
            try:
                connection = connection or socket.create_connection(("127.0.0.1", self._port), timeout=120)
                connection.sendall(self._request)
                status, stays = receive(connection)
            except OSError:
                status, stays = 0, False
            self.outcomes.append((status, time.monotonic() - start))
            if connection is not None and not stays:
                connection.close()
                connection = None


def receive(connection: socket.socket) -> tuple[int, bool]:
    """Read an answer: its status, and whether the connection stays open."""
    answer = b""
    while True:
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError
        answer += part
        head, end, body = answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if end and length is not None and len(body) >= int(length[1]):
            return int(head[9:12]), b"connection: close" not in head.lower()


def make_request(path: str, body: bytes, host: str = "localhost") -> bytes:
    """The bytes of a request."""
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def main() -> None:
    """Ask."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("image", type=Path)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--connections", type=int, default=96)
    parser.add_argument("--host", default="localhost", help="what the Host header says")
    args = parser.parse_args()
    request = make_request(args.path, args.image.read_bytes(), args.host)
    clients = Clients(args.port, request, args.requests, args.rate)
    seconds = clients.run(args.connections)
    said = {"outcomes": clients.outcomes, "seconds": seconds, "cpu seconds": time.process_time()}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
