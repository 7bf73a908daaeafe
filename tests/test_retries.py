"""What failures of remote file systems mean, and how long is waited before the next try."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from data_pipeline.reading import retries
from data_pipeline.reading.retries import Refused, Unreachable, give_up_or_wait, patiently, statuses


def failing(kind: type[Exception] = OSError, cause: Exception | None = None, **attributes: Any) -> Exception:
    """An error as a library raises it."""
    error = kind("页 failed at https://a.example/x?sig=hush")
    error.__cause__ = cause
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


BOTO = {"ResponseMetadata": {"HTTPStatusCode": 403}, "Error": {"Code": "AccessDenied"}}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (failing(FileNotFoundError), "missing"),
        (failing(FileNotFoundError, failing(status=404)), "missing"),
        (failing(FileNotFoundError, failing(status=503)), ""),  # fsspec's http: any failure to look at a file
        (failing(FileNotFoundError, failing(ConnectionError)), ""),
        (failing(status=410), "missing"),
        (failing(PermissionError), "forbidden"),
        (failing(OSError, failing(response=BOTO)), "forbidden"),  # botocore
        (failing(response=SimpleNamespace(status_code=403)), "forbidden"),  # the hub
        (failing(code=401), "forbidden"),  # gcsfs
        (failing(status=451), "forbidden"),
        (failing(status=400), "unreadable"),
        *((failing(status=status), "") for status in (408, 416, 425, 429, 500, 502, 503, 504)),
        (failing(TimeoutError), ""),
        (failing(ConnectionResetError), ""),
        (failing(KeyError), ""),
        (failing(code="nothing"), ""),
        (failing(PermissionError, cause=ValueError("An error occurred (ExpiredToken)")), ""),
    ],
)
def test_what_stays_so_and_what_may_pass(error: Exception, reason: str) -> None:
    with pytest.raises(Refused if reason else Unreachable, match="^https://a.example/d: ") as caught:
        give_up_or_wait("https://u:hush@a.example/d?hush", error, 6, 6)
    assert getattr(caught.value, "reason", "") == reason
    assert "hush" not in str(caught.value) and caught.value.__suppress_context__


def test_a_broken_answer_is_none() -> None:
    """aiohttp says 400 of answers that break off, as if the server had."""
    broken = type("ContentLengthError", (Exception,), {"__module__": "aiohttp.http_exceptions", "code": 400})()
    assert statuses(failing(cause=broken, status=400)) == [] and statuses(failing(status=400)) == [400]


def test_waits_grow_are_bounded_and_differ_between_files(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    for tries in range(1, 12):
        give_up_or_wait("https://a.example/x", ConnectionError(), tries, 99)
    assert all(0.5 * 2**i <= w < 2**i for i, w in enumerate(waits[:6])) and max(waits) < retries.LONGEST_WAIT
    for name in "xx秋":
        give_up_or_wait(f"https://a.example/{name}", ConnectionError(), 1, 99)
    assert waits[-3] == waits[-2] == waits[0] != waits[-1]
    for asked, wait in (("40", 40), ("9999", retries.LONGEST_WAIT), ("Sun, 06 Nov 2094 08:49:37 GMT", 1)):
        give_up_or_wait("x", failing(headers={"Retry-After": asked}), 1, 99)
        assert wait / 2 <= waits[-1] < wait


def test_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "LONGEST_WAIT", 0.0)
    tries: list[int] = []

    def action() -> str:
        tries.append(1)
        if len(tries) < 4:
            raise TimeoutError
        return "好"

    assert patiently("x", action) == "好" and len(tries) == 4
    tries.clear()
    monkeypatch.setattr(retries, "TRIES_LISTING", 3)
    with pytest.raises(Unreachable, match="after 3 tries"):
        patiently("x", action)
