"""Events as messages to a web server of the user's."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, urljoin, urlsplit

from oddsight.errors import OddsightError
from oddsight.model.events import Event, WatchedFrame
from oddsight.sinks.streams.outbox import Outbox, Refusal, TryAgain
from oddsight.sinks.streams.sink import StreamRun, WriteFrame

_TIMEOUT = 10.0
_REDIRECTS = 3
_LONGEST_ANSWER = 64 << 10
_LATER = {408, 425, 429}
"""Answers, besides those of 500 and more, after which another attempt makes sense."""
_SHORTEST_KEY = 16


@dataclass(frozen=True)
class _Message:
    id: str
    body: bytes


class Webhook:
    """A POST request with JSON for each state of an event, sent by a thread of its own.

    Messages follow Standard Webhooks (https://www.standardwebhooks.com), so that receivers can check them with its
    libraries: the body has ``type`` (such as ``anomaly.new``), ``timestamp`` and ``data`` (the event with ``source``
    and ``run``), the header ``webhook-id`` is the same whenever a message is sent again, and ``webhook-signature`` is
    ``v1,`` and the Base64 of HMAC-SHA256 over ``id.timestamp.body``. A message that fails is sent up to 8 times, with
    growing pauses. Redirects to another server are not followed. No message of Oddsight names more of the address than
    the server, as the rest may be secret.

    Args:
        address: The address, http or https, without user and password.
        key: The secret key, as text or as ``whsec_`` and its Base64; None leaves messages unsigned.
        per_minute: Messages a minute at most.
        pause: Seconds before a second attempt.

    Raises:
        OddsightError: If the address or the key will not do.
    """

    def __init__(self, address: str, *, key: str | None = None, per_minute: float = 60.0, pause: float = 1.0) -> None:
        self._address = _checked(address)
        self._key = None if key is None else _key_bytes(key)
        if not per_minute > 0:
            raise OddsightError(f"the messages a minute to a webhook are more than 0, not {per_minute:g}")
        self._per_minute, self._pause = per_minute, pause

    def __repr__(self) -> str:
        return f"Webhook({_server(self._address)})"

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Start the thread, and at the end wait up to 10 seconds for what is not sent yet."""
        where = f"the webhook at {_server(self._address)}"
        outbox = Outbox[_Message](
            self._send, per_minute=self._per_minute, complain=run.complain, where=where, pause=self._pause
        )
        name = uuid.uuid4().hex

        def write(watched: WatchedFrame) -> None:
            for event in watched.events:
                outbox.put(_message(event, run.source, name))

        try:
            yield write
        finally:
            outbox.close()

    def _send(self, message: _Message) -> None:
        """Send a message, with the time of this attempt."""
        moment = f"{datetime.now(UTC).timestamp():.0f}"
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "oddsight",
            "webhook-id": message.id,
            "webhook-timestamp": moment,
        }
        if self._key is not None:
            signed = f"{message.id}.{moment}.".encode() + message.body
            digest = hmac.new(self._key, signed, hashlib.sha256).digest()
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        target = self._address
        for _ in range(1 + _REDIRECTS):
            moved = _post(target, message.body, headers)
            if moved is None:
                return
            target = _redirected(target, moved)
        raise Refusal(f"it redirects more than {_REDIRECTS} times")


def _message(event: Event, source: str, run: str) -> _Message:
    content = {
        "type": f"{event.kind}.{event.state}",
        "timestamp": datetime.now(UTC).isoformat(),
        "data": event.to_json() | {"source": source, "run": run},
    }
    return _Message(uuid.uuid4().hex, json.dumps(content, allow_nan=False).encode())


def _checked(address: str) -> SplitResult:
    parts = split_address(address)
    if parts is None:
        raise OddsightError("the address of the webhook cannot be read: give it as https://host/path")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise OddsightError("the address of a webhook starts with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise OddsightError(
            "the address of a webhook has no user and no password: sign its messages with a key instead"
        )
    if not address.isascii() or any(not character.isprintable() or character == " " for character in address):
        raise OddsightError("the address of the webhook has characters that must be written as %XX")
    return parts


def split_address(address: str) -> SplitResult | None:
    """The parts of an address; None if it is none, as Python's own error would quote it."""
    with suppress(ValueError):
        parts = urlsplit(address)
        _ = parts.port
        return parts
    return None


def _key_bytes(key: str) -> bytes:
    try:
        known = base64.b64decode(key[6:], validate=True) if key.startswith("whsec_") else key.encode()
    except binascii.Error:
        raise OddsightError("the key of the webhook starts with whsec_, but Base64 does not follow") from None
    if len(known) < _SHORTEST_KEY:
        raise OddsightError(
            f"the key of the webhook has {len(known)} bytes: use at least {_SHORTEST_KEY}, made at random"
        )
    return known


def _server(address: SplitResult) -> str:
    host = f"[{address.hostname}]" if ":" in (address.hostname or "") else address.hostname
    return f"{address.scheme}://{host}" + (f":{address.port}" if address.port is not None else "")


def _post(target: SplitResult, body: bytes, headers: dict[str, str]) -> str | None:
    """Send a request; where to if it is redirected, None if it was taken."""
    kind = HTTPSConnection if target.scheme == "https" else HTTPConnection
    connection = kind(target.hostname or "", target.port, timeout=_TIMEOUT)
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read(_LONGEST_ANSWER)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise TryAgain(f"it cannot be reached ({reason})") from None
    finally:
        connection.close()
    return _judge(answer)


def _judge(answer: HTTPResponse) -> str | None:
    status = answer.status
    if 200 <= status < 300:
        return None
    if status in {307, 308}:
        return answer.getheader("Location") or ""
    if status >= 500 or status in _LATER:
        after = answer.getheader("Retry-After") or ""
        raise TryAgain(f"it answers {status}", float(after) if after.isdecimal() else 0.0)
    raise Refusal(f"it answers {status}")


def _redirected(target: SplitResult, moved: str) -> SplitResult:
    """Where a request is to go instead, on the same server only."""
    try:
        other = urlsplit(urljoin(target.geturl(), moved))
        same = _server(other) == _server(target) and other.username is None
    except ValueError:
        same = False
    if not moved or not same:
        raise Refusal("it redirects to another server, which is not followed")
    return other
