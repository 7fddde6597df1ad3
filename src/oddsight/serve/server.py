"""Running the service: its socket, and connections that take too long."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from oddsight.errors import OddsightError, plain
from oddsight.serve.app import create_app
from oddsight.serve.service import Service

_HEAD_SECONDS = 10.0
"""That the head of a request may take."""

_LARGEST_HEAD = 2**15
"""Bytes of the head of a request."""


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 with heads that are short and come soon, or the connection does not stay open."""

    _patience: asyncio.TimerHandle | None = None
    _head = 0
    """Bytes since the last head was whole, without those of a body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head > _LARGEST_HEAD:
            self.transport.abort()
        under_way = self.cycle is not None and not self.cycle.response_complete
        if under_way and self._patience is not None:
            self._patience.cancel()
            self._patience = None
        elif not under_way and self._patience is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._head = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head = 0
        super().on_body(body)

    def _wait_for_head(self) -> None:
        self._patience = self.loop.call_later(_HEAD_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def open_socket(host: str, port: int) -> socket.socket:
    """A socket to listen on.

    Raises:
        OddsightError: The address is not one, or the port is in use.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError):
        raise OddsightError(f"{plain(host)}: no address of this machine: name one, such as 127.0.0.1") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OddsightError(
            f"cannot listen on port {port} of {plain(host)}: {error.strerror}; name another one (--port)"
        ) from None
    return listening


def make_server(service: Service) -> uvicorn.Server:
    """What answers requests, before it runs."""
    settings: dict[str, Any] = {
        "http": _Protocol,
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": 15,
        "timeout_graceful_shutdown": 5,
    }
    return uvicorn.Server(uvicorn.Config(create_app(service), **settings))


def address(listening: socket.socket) -> str:
    """The address of the page."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
