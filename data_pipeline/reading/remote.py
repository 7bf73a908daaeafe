"""Files behind URLs (https, s3, hf, ... : fsspec): listed without reading them, copied whole to local files to be read.

Why copies: every reader works on a local file, Parquet jumps about in it, and a connection that breaks half-way is
taken up again at the byte where it broke; no reader ever sees half a file. What is missing or forbidden is Refused, a
broken document; what cannot be reached for now is Unreachable, and the shard is to be tried again.
Cost: one request a file over http, one per BLOCK elsewhere. Disk: one file a worker, below $TMPDIR. Memory: one BLOCK.
"""

from __future__ import annotations

import contextlib
import functools
import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urljoin

import fsspec

from data_pipeline.reading.addresses import HTTP, Entry, base_of, is_url, join, scrub, shown
from data_pipeline.reading.retries import TRIES, Refused, Unreachable, give_up_or_wait, patiently, statuses
from data_pipeline.reading.scratch import scratch_file
from mindllm.config import UserError

MAX_FILE_BYTES = 50_000_000_000  # of one file, as it lies there
BLOCK = 8 << 20
MAX_DEPTH = 64  # of folders: a server may link a folder into itself
_PROGRESS = 1 << 20  # so many new bytes make a new start of the tries
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}  # scheme -> extra in pyproject.toml
# What tells one content from another, as file systems call it; the first that is there counts.
_STAMPS = (
    "ETag etag checksum sha256 md5 md5Hash Content-MD5 crc32c blob_id generation Last-Modified LastModified"
    " last_modified updated modified mtime created"
).split()
_LISTING = re.compile(rb"<title>\s*(?:index of|directory listing)", re.IGNORECASE)  # Apache, nginx, Python and others


def file_system(url: str, storage: dict[str, Any]) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it. Raises UserError for one that cannot be set up.

    Not through fsspec.open: that would take a::b apart, so that the lines of a list could name local files.
    """
    scheme = url.partition("://")[0].lower()
    try:
        kind = fsspec.get_filesystem_class(scheme)
        options = {**_defaults(scheme), **kind._get_kwargs_from_urls(url)}
        for key, value in storage.items():
            both = isinstance(value, dict) and isinstance(options.get(key), dict)
            options[key] = {**options[key], **value} if both else value
        return kind(**options), kind._strip_protocol(url)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        way = f"install the extra {extra}: pip install -e '.[{extra}]'" if extra else str(error)
        raise UserError(f"{shown(url)}: {scheme}:// needs a package that is not there; {way}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{shown(url)}: cannot be set up ({scrub(str(error))}); check scheme and storage") from None


def _defaults(scheme: str) -> dict[str, Any]:
    """Options that we want: for http the bytes as they lie there, no limit on the whole, proxies as set outside."""
    if scheme not in HTTP:
        return {}
    from fsspec.implementations.http import aiohttp  # slow: up to a second, and only http needs it

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    client = {"timeout": timeout, "trust_env": True, "auto_decompress": False}
    return {"client_kwargs": client, "headers": {"Accept-Encoding": "identity"}}


def list_files(url: str, storage: dict[str, Any]) -> tuple[str, list[Entry]]:
    """(root, the files below it that are not hidden, sorted) of the URL of a folder or file. A request a folder.

    Over http, a folder is an index page with links, and its URL ends in / (or leads to one that does). Raises
    UserError, Refused or Unreachable.
    """
    fs, path = file_system(url, storage)
    try:
        return _list_web(fs, url) if is_url(url, *HTTP) else _list_store(fs, url, path)
    finally:
        fs.invalidate_cache()  # memory: a kB a file; and the next listing is to see what is new


def _list_store(fs: Any, url: str, path: str) -> tuple[str, list[Entry]]:
    fs.invalidate_cache()
    info = patiently(url, lambda: fs.info(path))
    if info["type"] == "directory":
        return url.rstrip("/"), sorted(_walk(fs, url, path.rstrip("/")))
    root, name = base_of(url)
    return root, [_entry(name, info)]


def _list_web(fs: Any, url: str) -> tuple[str, list[Entry]]:
    root, name = base_of(url)
    if not name:
        return root, sorted(_walk(fs, url, root))
    info = patiently(url, lambda: fs.info(url))
    led_to, nothing = base_of(info.get("url") or url)
    return (root, [_entry(name, info)]) if nothing else (led_to, sorted(_walk(fs, url, led_to)))


def _walk(fs: Any, url: str, root: str) -> Iterator[Entry]:
    """The files below `root`, a path of the file system; unlike fsspec's walk, no folder fails in silence."""
    folders, seen = [root], {(root, True)}
    while folders:
        folder = folders.pop()
        if folder.count("/") - root.count("/") > MAX_DEPTH:
            raise UserError(f"{shown(url)}: folders are nested deeper than {MAX_DEPTH}; a link that leads back?")
        web = is_url(folder, *HTTP)
        address = folder + "/" if web else folder
        found = patiently(url, functools.partial(fs.ls, address, detail=True))
        if web:
            found = [{**info, "name": link} for info in found if (link := _link(address, info["name"])) != address]
            if not found:
                _check_empty(fs, address)
        for info in found:
            path = info["name"]
            is_folder = path.endswith("/") or info["type"] == "directory"
            path = path.rstrip("/")
            name = path.removeprefix(root).removeprefix("/")
            if info["name"] == folder + "/" and info.get("StorageClass") == "DIRECTORY":  # as s3fs shows it
                raise UserError(
                    f"{shown(url)}: keys below {folder}/ go on with another /, which no listing by folders shows; "
                    "name the files in a list (paths: in place of path:, docs/sources.md)"
                )
            inside = path.startswith(folder + "/") and (path, is_folder) not in seen  # S3 has a and a/b side by side
            if not inside or any(part.startswith(".") for part in name.split("/")):
                continue
            seen.add((path, is_folder))
            if is_folder:
                folders.append(path)
            else:
                yield _entry(name, info)


def _check_empty(fs: Any, folder: str) -> None:
    """Raises UserError for a folder whose page links to nothing in it, unless it calls itself a listing.

    A server shows an index.html in place of the listing, and then what lies in the folder would be lost in silence.
    """
    if not _LISTING.search(patiently(folder, lambda: fs.cat_file(folder))[:4096]):
        raise UserError(
            f"{shown(folder)} shows a page that links to no file in this folder; what is there cannot be known. "
            "Name the files in a list (paths: in place of path:, docs/sources.md)"
        )


def _link(folder: str, name: str) -> str:
    """A link of an index page as a URL; what sorts the page, or leads out of the folder, becomes the folder itself."""
    here, there = folder.partition("://")[2], html.unescape(name).partition("#")[0].partition("://")[2]
    place = there.removeprefix(here)
    if not there.startswith(here) or place.startswith(("?", "mailto:", "javascript:", "tel:", "data:")):
        return folder
    url = urljoin(folder, "./" + place)
    return url if url.startswith(folder) else folder


def _entry(name: str, info: dict[str, Any]) -> Entry:
    found = next((f"{key}={info[key]}" for key in _STAMPS if info.get(key)), "")
    size = info.get("size")
    return Entry(name, size if isinstance(size, int) else None, found)


@contextlib.contextmanager
def local_copy(root: str, name: str, storage: dict[str, Any], max_bytes: int = MAX_FILE_BYTES) -> Iterator[Path]:
    """A complete local copy of a remote file, removed after the block; its suffix is that of `name`.

    Raises Refused, Unreachable or UserError.
    """
    url = join(root, name)
    with _room(Path(base_of(url)[1].partition("?")[0]).suffix[:20]) as (path, file):
        _copy(url, storage, file, max_bytes)
        yield path


@contextlib.contextmanager
def _room(suffix: str) -> Iterator[tuple[Path, IO[bytes]]]:
    with contextlib.ExitStack() as stack:
        try:
            room = stack.enter_context(scratch_file(suffix))
        except OSError as error:
            raise Unreachable(f"no temporary file can be made ({error}); TMPDIR names another folder") from None
        yield room


class _Stream(NamedTuple):
    """An open remote file: its first byte's place, bytes of the whole (None: unknown), how to read on."""

    start: int
    num_bytes: int | None
    tag: str  # what identifies this content, for going on with the same
    read: Callable[[int], bytes]


def _copy(url: str, storage: dict[str, Any], file: IO[bytes], max_bytes: int) -> None:
    """All bytes of `url` into `file`; after a break it goes on where it stopped, or from the start where it cannot."""
    fs, path = file_system(url, storage)
    stream_of = _http_stream if is_url(url, *HTTP) else _block_stream
    done, tries, reached, tag = 0, 0, 0, ""
    while True:
        try:
            with stream_of(fs, path, done, tag) as stream:
                if stream.start != done or (tag and stream.tag and stream.tag != tag):
                    done, tag = _rewind(file), ""
                    if stream.start:
                        raise ConnectionError("the file has changed, or another part came than was asked for")
                tag = tag or stream.tag
                while block := stream.read(BLOCK):
                    done += len(block)
                    if max(done, stream.num_bytes or 0) > max_bytes:
                        raise Refused("too_large", f"more than {max_bytes:,} bytes")
                    _write(file, block)
            if stream.num_bytes is not None and done != stream.num_bytes:
                raise ConnectionError(f"the connection ended after {done:,} of {stream.num_bytes:,} bytes")
            return
        except (Refused, Unreachable):
            raise
        except Exception as error:  # file systems raise what they like
            if done >= reached + _PROGRESS:
                tries, reached = 0, done
            tries += 1
            if 416 in statuses(error):  # shorter than it was: from the start
                done, tag = _rewind(file), ""
            give_up_or_wait(url, error, tries, TRIES)


def _rewind(file: IO[bytes]) -> int:
    """Empties the copy; returns the bytes in it."""
    file.seek(0)
    file.truncate()
    return 0


def _write(file: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise Unreachable(f"{file.name}: cannot be written ({error}); TMPDIR names another folder") from None


@contextlib.contextmanager
def _http_stream(fs: Any, url: str, start: int, tag: str) -> Iterator[_Stream]:
    """One request for all from `start` on; a server that has no ranges, or now another content, sends the whole."""
    headers = dict(fs.kwargs.get("headers") or {})
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": tag} if tag else {})
    with fs.open(url, "rb", block_size=0, size=1, headers=headers) as file:  # with a size, it does not ask for one
        answer = file.r
        strong = answer.headers.get("ETag", "")
        if not strong or strong.startswith("W/"):
            strong = answer.headers.get("Last-Modified", "")  # If-Range takes either
        if answer.status == 200:
            yield _Stream(0, answer.content_length, strong, file.read)
            return
        place, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = place.partition("-")[0]
        if answer.status != 206 or not first.isdecimal():  # such as 202: come back later
            raise ConnectionError(f"the server answers {answer.status}, without the file, or a part it does not name")
        yield _Stream(int(first), int(total) if total.isdecimal() else None, strong, file.read)


@contextlib.contextmanager
def _block_stream(fs: Any, path: str, start: int, tag: str) -> Iterator[_Stream]:
    """Any other file system: a file that can be sought in."""
    with fs.open(path, "rb", block_size=BLOCK, cache_type="none") as file:
        size = getattr(file, "size", None)
        size = size if isinstance(size, int) else None
        file.seek(start)
        yield _Stream(start, size, f"{size} {_entry(path, getattr(file, 'details', None) or {}).stamp}", file.read)
