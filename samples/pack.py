"""Packing pages: gzip members without a clock, WARC/1.0 files, lines of JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import uuid
import zlib

from blocks import Doc

PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")


def gzip_member(data: bytes) -> bytes:
    """The data as one gzip member with no time, no name and no operating system in its header."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = squeeze.compress(data) + squeeze.flush()
    return b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def digest(data: bytes) -> str:
    """A digest in the form WARC files use."""
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def record(kind: str, url: str, date: str, block: bytes, extra: dict[str, str]) -> bytes:
    """One WARC record as a gzip member of its own."""
    fields = {"WARC-Type": kind, "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, kind + url)}>"}
    fields |= {"WARC-Date": f"{date}T08:30:00Z"} | extra
    fields |= {"WARC-Target-URI": url} if kind != "warcinfo" else {}
    fields |= {"WARC-Block-Digest": digest(block), "Content-Length": str(len(block))}
    head = "WARC/1.0\r\n" + "".join(f"{key}: {value}\r\n" for key, value in fields.items()) + "\r\n"
    return gzip_member(head.encode() + block + b"\r\n\r\n")


def response(url: str, date: str, payload: bytes, mime: str = "text/html", status: str = "200 OK") -> bytes:
    """A record of a server's answer."""
    head = f"HTTP/1.1 {status}\r\nServer: nginx\r\nContent-Type: {mime}\r\nContent-Length: {len(payload)}\r\n\r\n"
    kind = {"Content-Type": "application/http; msgtype=response", "WARC-Payload-Digest": digest(payload)}
    return record("response", url, date, head.encode() + payload, kind)


def request(url: str, date: str) -> bytes:
    """A record of what the crawler asked for."""
    path, host = "/" + url.split("/", 3)[3], url.split("/")[2]
    block = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n".encode()
    return record("request", url, date, block, {"Content-Type": "application/http; msgtype=request"})


def warc(site: str, docs: list[tuple[Doc, str]], mime: str) -> bytes:
    """A crawl of a site: its pages, and a picture, a redirect and a missing page that are no documents."""
    root, date = f"http://www.{site}.example/", max(doc.page.date for doc, _ in docs)
    info = b"software: samples/build.py\r\nformat: WARC File Format 1.0\r\n"
    parts = [record("warcinfo", root + "info", date, info, {"Content-Type": "application/warc-fields"})]
    for i, (doc, html) in enumerate(docs):
        parts += [request(doc.url, doc.page.date)] if i == 0 else []
        parts.append(response(doc.url, doc.page.date, html.encode("utf-8"), mime=mime))
    parts.append(response(root + "logo.gif", date, PIXEL, mime="image/gif"))
    parts.append(response(root + "home", date, b"", status=f"301 Moved\r\nLocation: {root}index.html"))
    parts.append(response(root + "gone.html", date, b"<html><h1>404 Not Found</h1></html>", status="404 Not Found"))
    return b"".join(parts)


def json_lines(docs: list[tuple[Doc, str]]) -> bytes:
    """Pages as lines of JSON with the fields url, html and date."""
    rows = ({"url": doc.url, "html": html, "date": doc.page.date} for doc, html in docs)
    return gzip_member("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8"))
