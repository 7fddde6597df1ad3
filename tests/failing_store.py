"""A store of objects on this machine that speaks S3's protocol, by moto, and fails when it is told to."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self
from unittest import mock

BUCKET = "bucket"
PATIENCE = 5.0
"""Seconds after which those who wait for an answer give up."""

_NO_BUCKET = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"

Answer = Iterable[bytes]


class FailingStore:
    """An S3 store with one bucket; in its block the environment leads to it.

    Of all requests for objects a share ``rate`` gets an error, an answer that comes too late, or half of the content,
    once :meth:`fail` was called.
    """

    def __init__(self, rate: float = 0.05, seed: int = 0, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.rate, self.injected, self._failing, self._gone = rate, 0, False, False
        self._refusing = False
        self._requests: list[tuple[str, str]] = []
        self._draw, self._lock = random.Random(seed), threading.Lock()

    def __enter__(self) -> Self:
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        from oddsight.runtime import stores

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        environment = {
            "AWS_ACCESS_KEY_ID": "KEYOFATEST",
            "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ALLOW_HTTP": "true",
        }
        self._patches: list[Any] = [
            mock.patch.dict(os.environ, environment),
            mock.patch.dict(stores._CLIENT, {"timeout": f"{self.patience:g}s"}),
        ]
        for patch in self._patches:
            patch.start()
        stores._bucket.cache_clear()
        self.backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self.backend.reset()
        self.backend.create_bucket(BUCKET, "us-east-1")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from oddsight.runtime import stores

        for patch in self._patches:
            patch.stop()
        stores._bucket.cache_clear()
        self._server.shutdown()

    def put(self, name: str, content: bytes) -> None:
        """Store an object."""
        self.backend.put_object(BUCKET, name, content)

    def fail(self) -> None:
        """Fail from now on, at times."""
        self._failing = True
        self._requests.clear()

    def mend(self) -> None:
        """Fail no more."""
        self._failing = False

    def refuse(self) -> None:
        """Take no credentials any more; like stores of today, quote the key in the answer."""
        self._refusing = True

    def drop_bucket(self) -> None:
        """Let the bucket vanish with all that is in it."""
        self._gone = True

    def reads(self, prefix: str) -> int:
        """Requests for the content of objects below a prefix since it began to fail."""
        return sum(method == "GET" and name.startswith(prefix) for method, name in self._requests)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Answer:
        place = re.fullmatch(rf"/{BUCKET}/(.+)", environ["PATH_INFO"])
        name = place[1] if place else ""
        if self._refusing:
            key = re.search(r"Credential=([^/]+)", environ.get("HTTP_AUTHORIZATION", ""))
            content = f"<Error><Code>InvalidAccessKeyId</Code><Key>{key and key[1]}</Key></Error>".encode()
            start("403 Forbidden", [("Content-Length", str(len(content)))])
            return [content]
        if self._gone:
            start("404 Not Found", [("Content-Length", str(len(_NO_BUCKET)))])
            return [_NO_BUCKET]
        with self._lock:
            self._requests.append((environ["REQUEST_METHOD"], name))
            fault = (
                self._draw.choice(["error", "late", "half"])
                if self._failing and name and (self._draw.random() < self.rate)
                else None
            )
            self.injected += fault is not None
        if fault == "error":
            start("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        if fault == "late":
            time.sleep(self.patience + 1)
            start("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        answer: Answer = self._moto(environ, start)
        return _half(answer) if fault == "half" and environ["REQUEST_METHOD"] == "GET" else answer


def _half(answer: Answer) -> Iterator[bytes]:
    """The first half of an answer, whose length was promised already."""
    content = b"".join(answer)
    yield content[: len(content) // 2]
