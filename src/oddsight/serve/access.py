"""Who may do what: names by which the service may be called, and tokens with scopes."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oddsight.errors import OddsightError, plain

SCOPES = ("read", "score", "manage")
"""What a token may allow: to look, to score images and answer questions, and to change models. Later include earlier
ones."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{20,500}")
_LARGEST = 2**16

_PUBLIC = re.compile(r"/|/page(/.*)?|/favicon\.ico|/docs|/openapi\.json|/v2/health/(live|ready)")
_SCORE = re.compile(r"/api/models/[^/]+:predict|/v2/.*/infer|/api/feedback|/api/compare")


def needed_scope(method: str, path: str) -> str | None:
    """The scope that a request needs; None if it needs none. What is not named here needs the highest."""
    if method in ("GET", "HEAD"):
        return None if _PUBLIC.fullmatch(path) else "read"
    if method == "POST" and _SCORE.fullmatch(path):
        return "score"
    if method == "DELETE" and path.startswith("/api/feedback/"):
        return "score"
    return "manage"


@dataclass(frozen=True)
class Access:
    """Who may do what.

    Attributes:
        host: The address that the service listens on.
        names: Names by which it may be called besides, such as behind a proxy.
        tokens: Scopes by the SHA-256 of each token; empty if none is needed.
    """

    host: str = "127.0.0.1"
    names: frozenset[str] = frozenset()
    tokens: Mapping[bytes, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.tokens:
            raise OddsightError(
                f"{plain(self.host)} can be reached from other machines: give a file of tokens (--token-file FILE)"
            )

    def knows_host(self, header: str) -> bool:
        """Whether a Host header names this service, rather than a name that was rebound to its address."""
        name = _host_name(header)
        if name in self.names or name == "localhost":
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self.host)

    def scopes(self, authorization: str | None) -> frozenset[str]:
        """What a request may do by its Authorization header."""
        if not self.tokens:
            return frozenset(SCOPES)
        scheme, _, token = (authorization or "").partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        allowed = frozenset[str]()
        for known, scopes in self.tokens.items():  # all of them, so that time says nothing
            if hmac.compare_digest(known, given) and scheme.lower() == "bearer":
                allowed = scopes
        return allowed


def same_origin(origin: str, host: str) -> bool:
    """Whether an Origin header is of a page of this service."""
    scheme, _, place = origin.partition("://")
    return scheme in ("http", "https") and place.lower() == host.lower()


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_name(header: str) -> str:
    """A Host header without its port, in lower case."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def read_tokens(path: str | os.PathLike[str]) -> dict[bytes, frozenset[str]]:
    """Read a file of tokens: one a line, with a scope behind it (``manage`` if there is none).

    Raises:
        OddsightError: It cannot be read, or a line is not such a pair.
    """
    try:
        if not Path(path).is_file() or Path(path).stat().st_size > _LARGEST:
            raise OddsightError(f"{path}: not a file of tokens: write one token a line")
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise OddsightError(f"{path}: the file of tokens cannot be read: {reason}") from None
    tokens = dict(_parse(f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if _says(line))
    if not tokens:
        raise OddsightError(f"{path}: there is no token in it: write one a line, of 20 or more letters and digits")
    return tokens


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _parse(where: str, line: str) -> tuple[bytes, frozenset[str]]:
    token, *rest = line.split()
    if not _TOKEN.fullmatch(token):
        raise OddsightError(f"{where}: a token is 20 to 500 letters, digits or any of . _ ~ + / = -")
    scope = rest[0] if rest else SCOPES[-1]
    if len(rest) > 1 or scope not in SCOPES:
        raise OddsightError(f"{where}: behind a token stands one of {', '.join(SCOPES)}, or nothing")
    return hashlib.sha256(token.encode()).digest(), frozenset(SCOPES[: SCOPES.index(scope) + 1])


def allowed_names(names: Iterable[str]) -> frozenset[str]:
    """Names that users give, checked."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", name):
            raise OddsightError(f"{plain(name)!r} is no host name: give it without a port, such as parts.example.org")
    return frozenset(name.lower() for name in names)
