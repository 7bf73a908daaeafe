"""mindllm.endpoint: what passes is tried again, what is answered is kept and asked once, the key stays secret."""

from __future__ import annotations

import email.utils
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Chat, serve
from hypothesis import given
from hypothesis import strategies as st

from mindllm.config import RunFailed, UserError, load
from mindllm.endpoint import Answer, Cache, Client, EndpointConfig
from mindllm.endpoint import pace as pace_module
from mindllm.endpoint.pace import LONGEST_WAIT, Pace, backoff, retry_after

KEY = "sk-test-0123456789-geheim"
ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = [[{"role": "user", "content": text}] for text in ("春天是什么？", "葉子為何落下？", "What is a river?")]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr(pace_module, "FIRST_WAIT", 0.001)
    with serve() as chat:
        chat.reply = lambda body: f"答 {body['messages'][-1]['content']}"
        yield chat


def settings(chat: Chat, **changes: Any) -> EndpointConfig:
    fixed = {"key_variable": "TEST_KEY", "requests_per_minute": 0.0, "timeout": 20.0}
    return EndpointConfig(**{"url": chat.url, "model": "judge", **fixed, **changes})


def ask(folder: Path, config: EndpointConfig, questions: Any = QUESTIONS) -> list[Any]:
    with Cache(folder / "cache.jsonl") as cache:
        return Client(config, cache).ask_all(questions)


def test_answers_in_order_asked_once(chat: Chat, tmp_path: Path) -> None:
    found = ask(tmp_path, settings(chat, extra={"top_p": 0.5, "temperature": None}), [*QUESTIONS, QUESTIONS[0]])
    assert [a.text for a in found] == [f"答 {q[0]['content']}" for q in [*QUESTIONS, QUESTIONS[0]]]
    assert {a.finish for a in found} == {"stop"} and not any(a.refused for a in found)
    assert len(chat.bodies) == 3 and set(chat.paths) == {"/v1/chat/completions"}
    assert all(set(body) == {"model", "messages", "max_tokens", "top_p"} for body in chat.bodies)
    assert {h["Authorization"] for h in chat.headers} == {f"Bearer {KEY}"}
    again = ask(tmp_path, settings(chat, extra={"top_p": 0.5, "temperature": None}))
    assert again == found[:3] and len(chat.bodies) == 3
    ask(tmp_path, settings(chat, max_tokens=9))  # another request
    assert len(chat.bodies) == 6


@pytest.mark.parametrize("fault", [429, 500, 503, 522, "drop", "cut", "garbage", (429, {"Retry-After": "0"})])
def test_what_passes_is_tried_again(chat: Chat, tmp_path: Path, fault: Any) -> None:
    chat.faults = [fault] * 2
    found = ask(tmp_path, settings(chat, concurrency=1), QUESTIONS[:1])
    assert found[0].text == "答 春天是什么？" and len(chat.bodies) == 3


def test_slow_answers_end_at_the_timeout(chat: Chat, tmp_path: Path) -> None:
    chat.faults = ["slow"] * 2
    with pytest.raises(RunFailed, match="no whole answer within 0.2 s; given up after 2 tries"):
        ask(tmp_path, settings(chat, timeout=0.2, tries=2, concurrency=1), QUESTIONS[:1])


def test_given_up_and_gone_on_with(chat: Chat, tmp_path: Path) -> None:
    chat.faults = [None, *[500] * 3]
    with pytest.raises(RunFailed, match="HTTP 500 .*given up after 3 tries; what was answered is kept"):
        ask(tmp_path, settings(chat, tries=3, concurrency=1))
    assert len(chat.bodies) == 4
    assert [a.text for a in ask(tmp_path, settings(chat))] == [f"答 {q[0]['content']}" for q in QUESTIONS]
    assert len(chat.bodies) == 6


def test_a_long_pause_is_the_users_to_decide(chat: Chat, tmp_path: Path) -> None:
    chat.faults = [(429, {"Retry-After": "86400"})]
    with pytest.raises(RunFailed, match="asks for a pause of 86400 s"):
        ask(tmp_path, settings(chat), QUESTIONS[:1])


def test_refusals_are_answers_without_text_and_are_not_kept(chat: Chat, tmp_path: Path) -> None:
    chat.faults = [None, 400, "empty"]
    found = ask(tmp_path, settings(chat, concurrency=1))
    assert sorted(a.refused[:12] for a in found) == ["", "HTTP 400 no,", "an answer wi"]
    assert not any(a.refused for a in ask(tmp_path, settings(chat))) and len(chat.bodies) == 5


def test_when_all_is_refused_the_settings_are_wrong(chat: Chat, tmp_path: Path) -> None:
    chat.faults = [400] * 30
    questions = [[{"role": "user", "content": f"第 {n} 问"}] for n in range(30)]
    with pytest.raises(UserError, match="refuses all requests .HTTP 400 no, "):
        ask(tmp_path, settings(chat, concurrency=1), questions)
    assert len(chat.bodies) <= 11


def test_a_few_long_questions_at_the_start_do_not_end_the_work(chat: Chat, tmp_path: Path) -> None:
    """All pairs of one prompt come first in the list, and a server whose context is too short refuses them all."""
    questions = [[{"role": "user", "content": f"{'long' * (n < 12)} 第 {n} 问"}] for n in range(60)]
    chat.refuse = lambda body: "long" in body["messages"][0]["content"]
    found = ask(tmp_path, settings(chat, concurrency=1), questions)
    assert [bool(answer.refused) for answer in found] == [True] * 12 + [False] * 48


def test_a_model_that_thought_until_the_limit_is_paid_for_once(chat: Chat, tmp_path: Path) -> None:
    chat.faults = ["thoughts"]
    assert ask(tmp_path, settings(chat), QUESTIONS[:1]) == [Answer("", "length", "")]
    assert ask(tmp_path, settings(chat), QUESTIONS[:1]) == [Answer("", "length", "")] and len(chat.bodies) == 1


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 500 no\r\nContent-Length: 99\r\n\r\n\x1b[31mslow", b"\x1b[31mslow\r\n\r\n"]
)
def test_what_a_broken_server_says_is_shown_without_controls_and_not_waited_for(tmp_path: Path, said: bytes) -> None:
    """An error whose end does not come, and a line that is no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)
                done.wait(20)

        done = threading.Event()
        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        config = EndpointConfig(url, "judge", "", requests_per_minute=0.0, timeout=10.0, tries=1)
        with pytest.raises(RunFailed, match="31mslow") as caught:
            ask(tmp_path, config, QUESTIONS[:1])
        done.set()
    assert "\x1b" not in str(caught.value) and "timed out" not in str(caught.value)


@pytest.mark.parametrize(("status", "words"), [(401, "right key in .TEST_KEY"), (404, "check endpoint.url")])
def test_what_nobody_gets_is_the_users(chat: Chat, tmp_path: Path, status: int, words: str) -> None:
    chat.faults = [status]
    with pytest.raises(UserError, match=words) as caught:
        ask(tmp_path, settings(chat), QUESTIONS[:1])
    assert "\x1b" not in str(caught.value) and "不行" in str(caught.value)


def test_an_answer_beyond_the_limit_is_not_read(chat: Chat, tmp_path: Path) -> None:
    chat.faults = ["huge"]
    with pytest.raises(RunFailed, match="max_answer_bytes=2000"):
        ask(tmp_path, settings(chat, max_answer_bytes=2000), QUESTIONS[:1])


def test_the_key_goes_nowhere_else(chat: Chat, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chat.reply = lambda body: f"your key is {KEY}"
    with serve() as other:
        chat.faults = [(302, {"Location": f"{other.url}/steal"})]
        with pytest.raises(UserError, match="HTTP 302") as caught:
            ask(tmp_path, settings(chat), QUESTIONS[:1])
        assert not other.bodies and KEY not in str(caught.value)
    chat.faults = [500, 500, 400]
    for tries in (2, 6):
        try:
            found = ask(tmp_path, settings(chat, tries=tries, concurrency=1), QUESTIONS[:2])
            assert KEY not in repr(found) and "your key is ***" in {answer.text for answer in found}
        except RunFailed as error:
            assert KEY not in str(error) and "***" in str(error)
    with Cache(tmp_path / "cache.jsonl") as cache:
        client = Client(settings(chat), cache)
        assert KEY not in repr(client) + repr(client.config) + json.dumps(client.body(QUESTIONS[0]))
    assert KEY not in "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert KEY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("key", ["", "  ", "a\nb: c", "钥匙", "a b"])
def test_a_key_that_is_none_is_not_shown(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TEST_KEY", key)
    with pytest.raises(UserError, match="endpoint.key_variable: .*TEST_KEY") as caught:
        ask(tmp_path, settings(chat))
    assert not key.strip() or key not in str(caught.value)
    assert not chat.bodies


def test_no_key_where_none_is_wanted(chat: Chat, tmp_path: Path) -> None:
    ask(tmp_path, settings(chat, key_variable=""))
    assert all("Authorization" not in headers for headers in chat.headers)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(tmp_path, settings(chat))[0].text


def test_no_more_at_once_than_asked_for(chat: Chat, tmp_path: Path) -> None:
    questions = [[{"role": "user", "content": f"第 {n} 问"}] for n in range(24)]
    ask(tmp_path, settings(chat, concurrency=3), questions)
    assert chat.most_at_once <= 3 and len(chat.bodies) == 24


SCRIPT = """
import sys
from mindllm.endpoint import Cache, Client, EndpointConfig
config = EndpointConfig(sys.argv[1], "judge", "", concurrency=2, requests_per_minute=0.0)
with Cache(sys.argv[2]) as cache:
    Client(config, cache).ask_all([[{"role": "user", "content": f"第 {n} 问"}] for n in range(30)])
"""


def test_a_killed_run_pays_for_nothing_twice(chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cache.jsonl"

    def reply(body: dict[str, Any]) -> str:
        time.sleep(0.02)
        return "好"

    chat.reply = reply
    run = subprocess.Popen([sys.executable, "-c", SCRIPT, chat.url, str(path)], cwd=ROOT)
    while not path.exists() or path.read_bytes().count(b"\n") < 5:
        assert run.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    kept = path.read_bytes().count(b"\n")
    with open(path, "ab") as file:
        file.write(b'{"key": "0123')  # as if it had been killed while writing
    time.sleep(0.2)  # until the server has ended what it was asked
    asked = len(chat.bodies)
    questions = [[{"role": "user", "content": f"第 {n} 问"}] for n in range(30)]
    found = ask(tmp_path, settings(chat, key_variable=""), questions)
    assert len(found) == 30 and len(chat.bodies) - asked == 30 - kept < 26
    assert "half a line" in capsys.readouterr().out
    assert all(json.loads(line)["text"] == "好" for line in path.read_text().splitlines())


def test_cache_keeps_any_text_and_names_damage(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    with Cache(path) as cache:
        cache.add("a", {"text": "半\ud800个\u2028\n"})
        assert "a" in cache and len(cache) == 1
        with pytest.raises(UserError, match="another process"), Cache(path):
            pass
    with Cache(path) as cache:
        assert cache.get("a") == {"text": "半\ud800个\u2028\n"} and cache.get("b") is None
    path.write_bytes(b"no\n" + path.read_bytes())
    with pytest.raises(RuntimeError, match="cache.jsonl: line 1 is damaged"), Cache(path):
        pass


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://host.example/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:80/v1", True),
        ("http://host.example/v1", False),
        ("http://127.0.0.1.host.example/v1", False),
        ("http://localhost@host.example/v1", False),
        ("https://user:secret@host.example/v1", False),
        ("https://host.example/v1?key=secret", False),
        ("file:///etc/passwd", False),
        ("ftp://127.0.0.1/", False),
        ("https://host.example:99999/", False),
        ("https://主机.example/v1", False),
        ("https://[::1", False),
        ("", False),
    ],
)
def test_where_questions_may_go(url: str, good: bool) -> None:
    problems = list(EndpointConfig(url, "judge").problems())
    assert (not problems) == good and "secret" not in "".join(problems)


def test_wrong_settings_are_named() -> None:
    wrong = ["timeout=.nan", "tries=0", "extra.model=x", "requests_per_minute=-1", "concurrency=1000"]
    with pytest.raises(UserError) as caught:
        load(EndpointConfig, None, wrong)
    for word in ("model: name", "timeout", "tries", "extra.model", "requests_per_minute", "concurrency"):
        assert word in str(caught.value)


def test_pace_spreads_turns_and_holds() -> None:
    now = [100.0]
    pace = Pace(30, lambda: now[0])
    assert pace.take() == 0 and pace.take() == 2.0
    now[0] += 1.5
    assert pace.take() == 0.5
    now[0] += 0.5
    assert pace.take() == 0
    pace.hold(10)
    now[0] += 9
    assert pace.take() == 1.0
    assert Pace(0, lambda: 5.0).take() == 0


@given(st.integers(0, 2**40), st.integers(1, 2000))
def test_waits_grow_within_limits_and_repeat(seed: int, tries: int) -> None:
    wait = backoff(seed, "00ff", tries)
    assert 0.5 * min(2.0 ** min(tries - 1, 9), LONGEST_WAIT) <= wait < LONGEST_WAIT and wait == backoff(
        seed, "00ff", tries
    )
    assert backoff(seed, "00fe", tries) != wait


def test_retry_after_is_seconds_or_a_date() -> None:
    assert [retry_after(h, 0) for h in (None, "", "soon", "-5", "１２", "7 ", "٣")] == [0, 0, 0, 0, 0, 7, 0]
    assert retry_after(email.utils.formatdate(1_000_000_030, usegmt=True), 1_000_000_000) == 30
    assert retry_after(email.utils.formatdate(5), 1_000_000_000) == 0


@given(st.text())
def test_no_retry_after_crashes(header: str) -> None:
    assert retry_after(header, 1e9) >= 0
