"""Messages that are sent by a thread of their own, again after a failure, and not too many at a time."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Generic, TypeVar

Message = TypeVar("Message")

_WAITING = 256
"""Messages that wait at most; more are lost."""
_ATTEMPTS = 8
_LONGEST = 60.0
"""Seconds between two attempts at most."""


class TryAgain(Exception):  # noqa: N818 - not an error of anyone's
    """A message could not be sent, and may be later.

    Attributes:
        after: Seconds to wait at least.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Refusal(Exception):  # noqa: N818
    """A message could not be sent, and never will be."""


class Outbox(Generic[Message]):
    """What waits to be sent, in order.

    Args:
        send: Sends a message; raises :class:`TryAgain` or :class:`Refusal`.
        per_minute: Messages a minute at most, over any longer time; as many may go at once.
        complain: Called with what went wrong: the first failure, and at the end how many messages were lost.
        where: What they are sent to, in words.
        pause: Seconds before the second attempt, twice as many before each other, but for chance.
    """

    def __init__(
        self,
        send: Callable[[Message], None],
        *,
        per_minute: float,
        complain: Callable[[str], None],
        where: str,
        pause: float = 1.0,
    ) -> None:
        self._send, self._say, self._where, self._pause = send, complain, where, pause
        self._per_second = per_minute / 60
        self._most = self._allowed = max(1.0, per_minute)
        self._counted = time.monotonic()
        self._changed = Condition()
        self._waiting = deque[Message]()
        self._deadline = float("inf")
        self._lost = 0
        self._complained = False
        self._thread = Thread(target=self._work, name=f"oddsight {where}", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Have a message sent, unless too many wait already."""
        with self._changed:
            if len(self._waiting) < _WAITING:
                self._waiting.append(message)
                self._changed.notify()
            else:
                self._lost += 1

    def close(self, patience: float = 10.0) -> None:
        """Send what waits, for as many seconds as that, and say how much was lost."""
        with self._changed:
            self._deadline = time.monotonic() + patience
            self._changed.notify()
        self._thread.join(patience + 1)
        with self._changed:
            lost = self._lost + len(self._waiting)
        if lost:
            self._say(f"{lost:,} messages to {self._where} were not delivered")

    def _work(self) -> None:
        while (message := self._next()) is not None:
            delivered = self._deliver(message)
            with self._changed:
                self._waiting.popleft()
                self._lost += not delivered

    def _next(self) -> Message | None:
        """The message that is due, which goes on waiting until it is delivered; None when there will be no more."""
        with self._changed:
            while not self._waiting and self._deadline == float("inf"):
                self._changed.wait()
            if not self._waiting:
                return None
        while self._allowance() < 1:
            if not self._sleep((1 - self._allowed) / self._per_second):
                return None
        self._allowed -= 1
        with self._changed:
            return self._waiting[0]

    def _allowance(self) -> float:
        now = time.monotonic()
        self._allowed = min(self._most, self._allowed + (now - self._counted) * self._per_second)
        self._counted = now
        return self._allowed

    def _deliver(self, message: Message) -> bool:
        pause = self._pause
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._send(message)
            except TryAgain as failure:
                self._complain(f"{failure}: trying again" if attempt < _ATTEMPTS else str(failure))
                wait = min(_LONGEST, max(failure.after, pause * random.uniform(0.5, 1.0)))  # noqa: S311
                pause *= 2
                if attempt == _ATTEMPTS or not self._sleep(wait):
                    return False
            except Refusal as failure:
                self._complain(str(failure))
                return False
            else:
                self._complained = False
                return True
        return False

    def _complain(self, reason: str) -> None:
        """Say what is wrong once, until something was delivered again."""
        if not self._complained:
            self._complained = True
            self._say(f"{self._where}: {reason}")

    def _sleep(self, seconds: float) -> bool:
        """Wait, but not beyond the end; False if that is reached."""
        until = time.monotonic() + seconds
        with self._changed:
            while (now := time.monotonic()) < min(until, self._deadline):
                self._changed.wait(min(until, self._deadline) - now)
            return time.monotonic() < self._deadline
