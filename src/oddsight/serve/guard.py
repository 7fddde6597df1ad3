"""What every request passes first: names, origins, tokens and sizes, before any of its body is read."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from oddsight.serve.access import Access, needed_scope, same_origin
from oddsight.serve.bodies import Body
from oddsight.serve.errors import RequestError
from oddsight.serve.limits import Limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from oddsight.serve.metrics import ServiceMetrics
    from oddsight.serve.scoring import Scoring

log = logging.getLogger("oddsight.serve")

_PAGE = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

_HEADERS = (
    (b"content-security-policy", _PAGE.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cache-control", b"no-store"),
)
"""Of every answer that does not say otherwise."""


class Guard:
    """Refuses requests, and gives every answer its headers; an ASGI application around another one."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits, scoring: Scoring, metrics: ServiceMetrics) -> None:
        self._app, self._access, self._limits = app, access, limits
        self._scoring, self._metrics = scoring, metrics
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD" and needed_scope("HEAD", scope["path"]) is None:
            scope = {**scope, "method": "GET"}  # The server leaves the body out
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        size = None if "transfer-encoding" in headers else int(headers.get("content-length", "0"))
        body = Body(receive, size, self._limits.seconds, asks="expect" in headers)
        answer = _Answer(send, body)
        admitted = 0
        try:
            admitted = self._admit(scope, headers, size)
            self._bytes += admitted
            await self._app(scope, body, answer)
        except RequestError as error:
            await answer.refuse(error)
        except Exception:  # a mistake in one answer must not end the service
            log.exception("%s failed", scope["method"])
            await answer.refuse(RequestError(500, "the service failed at this: its log says more"))
        finally:
            self._bytes -= admitted
            self._metrics.count_request(scope, answer.status)

    def _admit(self, scope: Scope, headers: Mapping[str, str], size: int | None) -> int:
        """Refuse a request by what its head says; the bytes of its body."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if sum(key == b"host" for key, _ in scope["headers"]) > 1:
            raise RequestError(400, "a request has one Host header")
        if not self._access.knows_host(host):
            raise RequestError(403, "this service is not called so: name its host when it is started (--name HOST)")
        if origin is not None and not same_origin(origin, host):
            raise RequestError(403, "a page of another origin may not use this service")
        method, path = scope["method"], scope["path"]
        needed = needed_scope(method, path)
        opens = needed is None and headers.get("sec-fetch-mode") == "navigate"  # A link to the page
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and not opens:
            raise RequestError(403, "a page of another site may not use this service")
        scopes = self._access.scopes(headers.get("authorization"))
        scope.setdefault("state", {})["scopes"] = scopes
        if needed is not None and needed not in scopes:
            if not scopes:
                raise RequestError(401, "this needs a token: send it as 'Authorization: Bearer TOKEN'")
            raise RequestError(403, f"this token may not do that: it needs the scope {needed!r}")
        return self._admit_body(size, method, path)

    def _admit_body(self, size: int | None, method: str, path: str) -> int:
        if size is None:
            raise RequestError(411, "say how long the body is (Content-Length)")
        most = self._limits.body(method, path)
        if size > most:
            raise RequestError(413, f"the body has {size:,} bytes, and at most {most:,} are taken")
        if method == "POST" and path.endswith((":predict", "/infer")):
            self._scoring.check_room()
        if self._bytes + size > self._limits.memory:
            raise RequestError(429, "the service is reading as much as it can: try again", retry_after=1)
        return size


class _Answer:
    """``send`` with the headers that every answer has, which ends no answer before the body has been read."""

    def __init__(self, send: Send, body: Body) -> None:
        self._send, self._body, self.status = send, body, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {key.lower() for key, _ in message["headers"]}
            more = [header for header in _HEADERS if header[0] not in given]
            if self._body.is_left_unread and b"connection" not in given:
                more.append((b"connection", b"close"))
            message = {**message, "headers": [*message["headers"], *more]}
        elif not self._body.whole and not message.get("more_body", False):
            await self._send({**message, "more_body": True})  # All of the answer, as it says how long it is
            await self._body.throw_away()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def refuse(self, error: RequestError) -> None:
        """Answer with an error, unless an answer has begun."""
        if self.status:
            return
        content = json.dumps({"error": str(error)}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if error.retry_after is not None:
            headers.append((b"retry-after", str(math.ceil(error.retry_after)).encode()))
        await self({"type": "http.response.start", "status": error.status, "headers": headers})
        await self({"type": "http.response.body", "body": content})
