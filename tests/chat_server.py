"""A server for tests that speaks OpenAI's chat protocol on this machine, with the faults that one asks for."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def agree(body: dict[str, Any]) -> str:
    """The reply of a judge that likes the first answer."""
    return "Reasons. 理由。\n[[A]]"


@dataclass
class Chat:
    """reply: text for a request's body.  refuse: bodies that get a 400.  faults: what happens to the next requests, one
    after the other.

    A fault is a status, (status, headers), "drop" (no answer), "cut" (breaks off), "garbage", "empty" (no text), "slow"
    (a byte now and then), "huge", "length" (cut off by max_tokens), "thoughts" (cut off, and no text).  bodies,
    headers: of every request.
    """

    url: str = ""
    reply: Callable[[dict[str, Any]], str] = agree
    refuse: Callable[[dict[str, Any]], bool] = lambda body: False
    faults: list[Any] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    num_at_once: int = 0
    most_at_once: int = 0


@contextlib.contextmanager
def serve() -> Iterator[Chat]:
    """A server on a free port of this machine, for as long as the block runs."""
    chat = Chat()

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with chat.lock:
                chat.bodies.append(body)
                chat.headers.append(dict(self.headers))
                chat.paths.append(self.path)
                fault = chat.faults.pop(0) if chat.faults else None
                chat.num_at_once += 1
                chat.most_at_once = max(chat.most_at_once, chat.num_at_once)
            try:
                self.answer(body, fault)
            finally:
                with chat.lock:
                    chat.num_at_once -= 1

        do_GET = do_POST

        def answer(self, body: dict[str, Any], fault: Any) -> None:
            if fault == "drop":
                return
            if chat.refuse(body):
                fault = 400
            if isinstance(fault, int | tuple):
                status, headers = fault if isinstance(fault, tuple) else (fault, {})
                said = f"no, {self.headers.get('Authorization')} <b>\x1b[31m不行</b>"
                return self.send(status, said.encode(), headers)
            if fault == "garbage":
                return self.send(200, "<html>网关</html>".encode())
            content = None if fault in ("empty", "thoughts") else chat.reply(body)
            finish = "length" if fault in ("length", "thoughts") else "stop"
            choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish}
            data = json.dumps({"choices": [choice], "pad": "x" * (3000 * (fault == "huge"))}).encode()
            if fault == "slow":
                self.send(200, data, {}, 0)
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
                return None
            return self.send(200, data, {}, len(data) // 2 if fault == "cut" else None)

        def send(self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:cut])

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that has waited long enough
                super().handle()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
