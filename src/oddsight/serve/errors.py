"""Errors of requests, each with its HTTP status and one sentence."""

from __future__ import annotations

from oddsight.errors import OddsightError


class RequestError(OddsightError):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        retry_after: Seconds after which to try again, if that may help.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


def not_found(what: str) -> RequestError:
    """404."""
    return RequestError(404, f"there is no {what}")


def no_workspace() -> RequestError:
    """Something is to be kept, and there is no place for it."""
    return RequestError(409, "this service keeps nothing: start it with a workspace (--workspace DIR)")
