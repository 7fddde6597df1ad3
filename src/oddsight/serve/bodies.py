"""The body of a request: it has to come in time, and what nobody reads of it is thrown away."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from oddsight.serve.limits import SLOWEST

if TYPE_CHECKING:
    from starlette.types import Message, Receive

_MOST_THROWN_AWAY = 2**24
"""Bytes that are thrown away of a body that nobody reads."""

_LONGEST = 10.0
"""Seconds that this may take."""


class Body:
    """``receive`` of a request, until its body is there and ever after.

    Args:
        receive: Of the server.
        size: Bytes of the body, 0 if there is none; None if the request does not say.
        seconds: That the client may stay silent.
        asks: Whether the client waits for a word before it sends it (Expect).

    Attributes:
        whole: Whether all of it has been read.
    """

    def __init__(self, receive: Receive, size: int | None, seconds: float, *, asks: bool = False) -> None:
        self._receive, self._size, self._seconds, self._asks = receive, size, seconds, asks
        self._end = time.monotonic() + seconds + (size or 0) / SLOWEST
        self.whole = size == 0

    async def __call__(self) -> Message:
        """What comes next.

        Raises:
            HTTPException: It does not come in time.
        """
        if self.whole:
            return await self._receive()
        try:
            async with asyncio.timeout(min(self._seconds, max(0.0, self._end - time.monotonic()))):
                return await self._next()
        except TimeoutError:
            text = "the body does not come, or too slowly"
            raise HTTPException(408, text, {"connection": "close"}) from None

    async def _next(self) -> Message:
        message = await self._receive()
        self.whole = not message.get("more_body", False)
        return message

    @property
    def is_left_unread(self) -> bool:
        """Whether more of it may come than is thrown away, or nothing, so that the connection has to be closed."""
        return not self.whole and (self._asks or self._size is None or self._size > _MOST_THROWN_AWAY)

    async def throw_away(self) -> None:
        """Read what is left of it, as far as that is little and comes soon.

        A connection that is closed while the client still sends is reset, and then the client may never see the answer.
        """
        left = _MOST_THROWN_AWAY
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST):
                while not self.whole and left > 0:
                    left -= len((await self._next()).get("body", b""))
