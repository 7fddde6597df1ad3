"""Addresses of streams, whose credentials are shown nowhere."""

from __future__ import annotations

import re
from typing import Self

from oddsight.errors import OddsightError, plain

PROTOCOLS = {
    "rtsp": "rtsp,rtp,rtcp,srtp,udp,tcp,tls,http,https,httpproxy",
    "rtsps": "rtsps,rtsp,rtp,rtcp,srtp,udp,tcp,tls,http,https,httpproxy",
    "http": "http,https,httpproxy,tcp,tls,crypto",
    "https": "http,https,httpproxy,tcp,tls,crypto",
    "udp": "udp,rtp",
    "tcp": "tcp",
    "rtp": "rtp,udp",
}
"""Schemes of addresses, and what FFmpeg may open on their behalf: never a local file."""


class Address:
    """The address of a stream. Shown, printed or formatted it is :attr:`safe`; only :meth:`reveal` has the credentials.

    Attributes:
        scheme: Such as ``rtsp``, in lower case.
        safe: The address without user and password, and without what follows the first ``?``, ``#``, ``;`` or ``=``,
            which may be a token.

    Args:
        text: Such as ``rtsp://user:password@camera.local/stream1``.

    Raises:
        OddsightError: If it is no address of a stream. The error shows no more than its scheme.
    """

    def __init__(self, text: str) -> None:
        scheme, found, rest = text.strip().partition("://")
        self.scheme = scheme.lower()
        if not found or self.scheme not in PROTOCOLS:
            shown = f"{plain(scheme)[:20]}://..." if found else "this"
            raise OddsightError(f"{shown} is no address of a stream: give one of {', '.join(PROTOCOLS)}")
        self._text = text.strip()
        # Up to the last @, wherever it is: passwords with a / or ? in them are written without care.
        place = re.sub(r"([?#;=]).*", r"\1...", rest.rpartition("@")[2])
        self.safe = f"{self.scheme}://{plain(place)}"
        if not rest or any(c.isspace() or not c.isprintable() for c in rest):
            raise OddsightError(f"{self.scheme}://... is no address of a stream: it has no host, or spaces in it")

    def reveal(self) -> str:
        """The address with its credentials, for opening it."""
        return self._text

    def __str__(self) -> str:
        return self.safe

    def __repr__(self) -> str:
        return f"Address({self.safe!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        """Refuse to be pickled, which would write the credentials."""
        raise OddsightError(f"the address {self.safe} is not pickled, as that would write its credentials")
