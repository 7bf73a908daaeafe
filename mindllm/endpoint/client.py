"""Chat completions from a server that speaks OpenAI's protocol (vLLM, llama.cpp, SGLang and paid services do).

Only the standard library: one POST a question, some threads. What may pass (429, 5xx, broken connections, timeouts,
answers that are no chat completion) is tried again; a request that the server refuses (400, 413, 422) is an answer
without text, which the caller counts. The key comes from an environment variable and goes to the configured host alone:
redirects are not followed, plain http is for this machine, and whatever the server says is shown and kept without the
key. Cost: the server's. Memory: all questions and answers.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mindllm.config import RunFailed, UserError
from mindllm.endpoint.cache import Cache
from mindllm.endpoint.config import EndpointConfig, is_loopback, read_key
from mindllm.endpoint.pace import LONGEST_PAUSE, Pace, backoff, retry_after
from mindllm.stage import hash_json

Message = dict[str, str]  # {"role": "user", "content": "..."}
REFUSALS = (400, 413, 422)  # this request will never be answered; others may
_AGAIN = (408, 409, 425, 429)  # and all from 500 on: gateways have codes of their own
_ALL_REFUSED = 10  # so many refusals and no answer: the settings are wrong, not the questions
_BLOCK = 1 << 16
_SECRET = 8  # characters; shorter keys are placeholders such as EMPTY, and words of their own
_LATER = "what was answered is kept: the same command goes on from there"


class Answer(NamedTuple):
    """What came back. finish: the server's reason for the end ("stop", "length").  refused: why there is no text."""

    text: str
    finish: str
    refused: str


def no_answer(reason: str) -> Answer:
    """A request that was refused."""
    return Answer("", "", reason)


class _Again(Exception):
    """The request may succeed later. pause: seconds that the server asked for."""

    def __init__(self, why: str, pause: float = 0.0):
        super().__init__(why)
        self.pause = pause


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Nowhere: the key and the questions are for the configured host. What follows is an HTTPError of 3xx."""


class Client:
    """Asks one server; answers are looked up in `cache` first and kept there. `seed`: of the jitter of waits."""

    def __init__(
        self, config: EndpointConfig, cache: Cache, seed: int = 1, clock: Callable[[], float] = time.monotonic
    ):
        if problems := list(config.problems()):
            raise UserError("\n".join(f"endpoint.{p}" for p in problems))
        self.config, self._cache, self._seed, self._clock = config, cache, seed, clock
        self._key = read_key(config.key_variable)
        self._url = config.url.rstrip("/") + "/chat/completions"
        local = is_loopback(urlsplit(config.url))
        handlers = [_NoRedirect(), *([urllib.request.ProxyHandler({})] if local else [])]
        self._opener = urllib.request.build_opener(*handlers)
        self._pace = Pace(config.requests_per_minute, clock)
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._error: Exception | None = None
        self._num_refused = self._num_answered = 0

    def body(self, messages: Sequence[Message]) -> dict[str, Any]:
        """The JSON of a request."""
        asked = {"model": self.config.model, "messages": list(messages)}
        settings = {"max_tokens": self.config.max_tokens, "temperature": 0, **self.config.extra}
        return {**asked, **{name: value for name, value in settings.items() if value is not None}}

    def key_of(self, messages: Sequence[Message]) -> str:
        """The hash under which the answer is kept: of the server's address and all that it is sent, the key apart."""
        return hash_json([self._url, self.body(messages)])

    def num_missing(self, questions: Sequence[Sequence[Message]]) -> int:
        """How many different requests `ask_all` would send."""
        return len({self.key_of(q) for q in questions if self.key_of(q) not in self._cache})

    def ask_all(
        self, questions: Sequence[Sequence[Message]], done: Callable[[int, int], None] = lambda n, of: None
    ) -> list[Answer]:
        """The answers, in the order of the questions; equal questions are asked once. done(answered, to ask).

        Raises UserError for what the server will not take from anybody, RunFailed when it cannot be reached: what was
        answered until then is kept, and the same call goes on from there.
        """
        keys = [self.key_of(question) for question in questions]
        found = {key: self._kept(key) for key in keys if key in self._cache}
        missing = {key: q for key, q in zip(keys, questions, strict=True) if key not in found}
        self._stop.clear()
        self._error = None
        self._num_refused, self._num_answered = 0, len(found)
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            # By hash: the first ones are a sample of all, not the pairs of one prompt that is too long for the server.
            futures = {pool.submit(self._ask, key, missing[key]): key for key in sorted(missing)}
            try:
                for number, future in enumerate(as_completed(futures), 1):
                    found[futures[future]] = future.result()
                    done(number, len(missing))
            except BaseException as error:  # an interrupt as well: no new requests; answers on their way are kept
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                if isinstance(error, Exception) and self._error is not None:
                    raise self._error from None  # and not that another thread was stopped for it
                raise
        return [found[key] for key in keys]

    def _kept(self, key: str) -> Answer:
        kept = self._cache.get(key)
        assert kept is not None, "looked up before"
        return Answer(kept["text"], kept["finish"], "")

    def _ask(self, key: str, question: Sequence[Message]) -> Answer:
        """One answer. The first thread that fails stops all before it takes up another question."""
        try:
            return self._ask_patiently(key, question)
        except Exception as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()
            raise

    def _ask_patiently(self, key: str, question: Sequence[Message]) -> Answer:
        data = json.dumps(self.body(question)).encode()
        for tries in range(1, self.config.tries + 1):
            self._wait_for_turn()
            try:
                answer = self._send(data)
                break
            except _Again as error:
                if error.pause > LONGEST_PAUSE:
                    pause = f"it asks for a pause of {error.pause:.0f} s"
                    raise RunFailed(f"{self._url}: {error}; {pause}; {_LATER}") from None
                if tries == self.config.tries:
                    raise RunFailed(f"{self._url}: {error}; given up after {tries} tries; {_LATER}") from None
                if error.pause:
                    self._pace.hold(error.pause)
                self._sleep(max(error.pause, backoff(self._seed, key, tries)))
        if not answer.refused:
            self._cache.add(key, {"text": answer.text, "finish": answer.finish})
        self._count(answer)
        return answer

    def _count(self, answer: Answer) -> None:
        with self._lock:
            self._num_refused += bool(answer.refused)
            self._num_answered += not answer.refused
            if self._num_refused >= _ALL_REFUSED and not self._num_answered:
                raise UserError(f"{self._url}: refuses all requests ({answer.refused}); check endpoint.model and extra")

    def _wait_for_turn(self) -> None:
        while seconds := self._pace.take():
            self._sleep(seconds)
        if self._stop.is_set():
            raise RunFailed("stopped")

    def _sleep(self, seconds: float) -> None:
        """Wait, or raise RunFailed as soon as another thread has ended the work."""
        if self._stop.wait(seconds):
            raise RunFailed("stopped")

    def _send(self, data: bytes) -> Answer:
        """One try. Raises _Again for what may pass, UserError for what will not."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "mindllm"}
        request = urllib.request.Request(self._url, data, headers, method="POST")
        if self._key:
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        deadline = self._clock() + self.config.timeout
        try:
            with self._opener.open(request, timeout=self.config.timeout) as response:
                return self._parse(self._read(response, deadline))
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error)
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            raise _Again(self._excerpt(f"{type(error).__name__}: {error}")) from None

    def _read(self, response: Any, deadline: float) -> bytes:
        """The body. Raises _Again when it is not there at the deadline, RunFailed when it is too large."""
        parts, size = [], 0
        while part := response.read1(_BLOCK):
            parts.append(part)
            size += len(part)
            if size > self.config.max_answer_bytes:
                limit = f"endpoint.max_answer_bytes={self.config.max_answer_bytes}"
                raise RunFailed(f"{self._url}: an answer of more than {limit}; what was answered before is kept")
            if self._clock() > deadline:
                raise _Again(f"no whole answer within {self.config.timeout} s")
        if response.length:
            raise _Again(f"the answer broke off, {response.length} bytes before its end")
        return b"".join(parts)

    def _parse(self, data: bytes) -> Answer:
        try:
            choice = json.loads(data)["choices"][0]
            text, finish = choice["message"].get("content"), choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            said = self._excerpt(data.decode("utf-8", "replace"))
            raise _Again(f"an answer that is no chat completion: {said}") from None
        if text is None and finish == "length":
            text = ""  # a model that thinks first got no further: it is paid for, and another try ends there, too
        if not isinstance(text, str):
            return no_answer("an answer without text")
        return Answer(self._scrub(text), self._scrub(finish) if isinstance(finish, str) else "", "")

    def _refused(self, error: urllib.error.HTTPError) -> Answer:
        try:
            said = self._excerpt(error.read1(_BLOCK).decode("utf-8", "replace"))  # what has come; no waiting for more
        except (OSError, http.client.HTTPException):
            said = ""
        line = f"HTTP {error.code} {said}".rstrip()
        if error.code in REFUSALS:
            return no_answer(line)
        if error.code in _AGAIN or error.code >= 500:
            raise _Again(line, retry_after(error.headers.get("Retry-After"), time.time()))
        if error.code in (401, 403):
            variable = f"${self.config.key_variable}" if self._key else "the variable that key_variable names"
            raise UserError(f"{self._url}: {line}; is the right key in {variable}?")
        raise UserError(f"{self._url}: {line}; check endpoint.url and endpoint.model") from None

    def _excerpt(self, text: str) -> str:
        """The first words of what a server said, for a message: one line, no control characters, no key."""
        words = self._scrub(text).split()
        return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(words))[:300]

    def _scrub(self, text: str) -> str:
        return text.replace(self._key, "***") if len(self._key) >= _SECRET else text
