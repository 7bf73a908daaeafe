"""What a remote file system's failures mean: never to be had (Refused), not for now (Unreachable), or tried again.

Each library raises errors of its own; what they share is an HTTP status somewhere along their causes. All that is not
known to stay so is tried again, for a shard can be run once more, but a file that was given up is lost to the run.
Costs: waits of up to a minute. Memory: none.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from data_pipeline.reading.addresses import scrub, shown

T = TypeVar("T")

TRIES, TRIES_LISTING = 6, 4  # without any progress; a listing has somebody waiting for it
TRIES_FORBIDDEN = 3  # some servers say 403 and mean "too many requests"
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the second try, and at most; doubled from try to try
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestTimeTooSkewed")  # S3's codes for what the user can renew


class Unreachable(RuntimeError):
    """A remote file cannot be had for now, after several tries: the shard fails and may be tried again later."""


class Refused(OSError):
    """A remote file will not be had: `reason` is missing, forbidden, too_large or unreadable."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


def patiently(url: str, action: Callable[[], T]) -> T:
    """What `action` returns, tried again while it makes sense. Raises Refused or Unreachable."""
    tries = 0
    while True:
        try:
            return action()
        except Exception as error:  # file systems raise what they like
            tries += 1
            give_up_or_wait(url, error, tries, TRIES_LISTING)


def give_up_or_wait(url: str, error: Exception, tries: int, most: int) -> None:
    """Sleep before the next try, or raise: Refused for what will stay so, Unreachable after too many tries."""
    reason, text = _verdict(error), scrub(f"{type(error).__name__}: {error}")
    if reason and (reason != "forbidden" or tries >= TRIES_FORBIDDEN):
        raise Refused(reason, f"{shown(url)}: {text}") from None
    if tries >= most:
        raise Unreachable(f"{shown(url)}: cannot be reached after {tries} tries ({text})") from None
    asked = next((h.get("Retry-After", "") for e in _chain(error) if (h := getattr(e, "headers", None))), "")
    wait = max(FIRST_WAIT * 2 ** (tries - 1), float(asked) if asked.isdecimal() else 0.0)
    time.sleep(min(wait, LONGEST_WAIT) * _jitter(url, tries))


def _jitter(url: str, tries: int) -> float:
    """In [.5, 1), the same for the same try of the same file, so that a thousand workers do not come back at once."""
    return 0.5 + zlib.crc32(f"{url} {tries}".encode("utf-8", "surrogateescape")) % 1000 / 2000


def _verdict(error: Exception) -> str:
    """Why a file will never be had; "" for what may pass: connections, timeouts, 429, 5xx, and what nobody foresaw."""
    if any(word in str(e) for word in _EXPIRED for e in _chain(error)):
        return ""
    for status in statuses(error):
        if status in (404, 410):
            return "missing"
        if status in (401, 403, 451):
            return "forbidden"
        return "unreadable" if 400 <= status < 500 and status not in (408, 412, 416, 425, 429) else ""
    if isinstance(error, PermissionError):
        return "forbidden"
    # fsspec's http turns any failure to look at a file into FileNotFoundError, with the failure as its cause
    return "missing" if isinstance(error, FileNotFoundError) and error.__cause__ is None else ""


def statuses(error: BaseException) -> list[int]:
    """The HTTP statuses that an error and its causes carry, each library in its own way."""
    found: list[Any] = []
    for e in _chain(error):
        if type(e).__module__ == "aiohttp.http_exceptions":  # an answer that broke off; its code is not the server's
            return []
        answer = getattr(e, "response", None)
        found += [getattr(e, "status", None), getattr(e, "code", None), getattr(answer, "status_code", None)]
        if isinstance(answer, dict):  # botocore
            found.append(answer.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    return [status for status in found if isinstance(status, int) and 300 <= status < 600]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
