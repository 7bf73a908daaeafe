"""The files of a folder as named texts, whether they lie there as they are, compressed, or in an archive.

Nothing is unpacked to disk: archives (tar in any compression, zip) are read into memory, so no path inside one can
leave its folder. A few kilobytes can unpack to gigabytes, so there are limits: per file, per archive and for the
number of members, all far above what the largest known benchmark needs. Names are relative to the folder; what an
archive holds is named below it (mmlu.tar.gz/dev/x.csv), and a compressed file by its name without .gz or .bz2.
memory: the unpacked archives of one folder, 8 MB for MMLU.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, Self

from mindllm.config import UserError

MAX_FILE = 256 << 20  # bytes, unpacked
MAX_ARCHIVE = 512 << 20  # bytes, unpacked, all files of one archive
MAX_MEMBERS = 50_000  # of one archive, and files in a folder
MAX_HEADER = 1 << 20  # bytes of a name or remark in a tar archive

_OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # type: ignore[dict-item]
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, NotImplementedError)


class Files:
    """What can be read below one folder. Raises UserError for an archive that is damaged, too large or unsafe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._found: dict[str, Path | bytes] = {}
        for path in _files(folder):
            name = path.relative_to(folder).as_posix()
            if tarfile_suffix(path.name):
                self._add(f"{name}/", _unpack_tar(path))
            elif path.suffix.lower() == ".zip":
                self._add(f"{name}/", _unpack_zip(path))
            else:
                self._add("", [(_plain_name(name), path)])

    def matching(self, *patterns: str) -> list[tuple[str, str]]:
        """(where, text) of the files whose path ends with one of the patterns (* as in a shell), in order of path."""
        chosen = {n for pattern in patterns for n in self._found if fnmatch(f"/{n}", f"*/{pattern}")}
        return [(f"{self.folder}/{name}", self._text(name)) for name in sorted(chosen)]

    def one(self, *patterns: str) -> tuple[str, str] | None:
        """The file of the first pattern that any has, or None. Two such files are a UserError: which one is meant?"""
        for pattern in patterns:
            found = self.matching(pattern)
            if len({text for _, text in found}) > 1:
                names = " and ".join(where for where, _ in found[:2])
                raise UserError(f"data: {names} differ, and both look like {pattern}; keep one of them")
            if found:
                return found[0]
        return None

    def _add(self, prefix: str, found: list[tuple[str, bytes]] | list[tuple[str, Path]]) -> None:
        for below, content in found:
            name = prefix + below
            if name in self._found and _bytes(self._found[name]) != _bytes(content):
                raise UserError(f"data: {self.folder}/{name} is there twice (packed, too?), and they differ; keep one")
            self._found[name] = content

    def _text(self, name: str) -> str:
        try:
            return _bytes(self._found[name]).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.folder}/{name}: damaged: no UTF-8 at byte {error.start}") from None


def tarfile_suffix(name: str) -> bool:
    """Whether a file name is one of a tar archive, compressed or not."""
    return name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def _files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.name))
    if len(paths) > MAX_MEMBERS:
        raise UserError(f"data: {folder} holds more than {MAX_MEMBERS:,} files; name the folder of the benchmarks")
    return paths


def _is_hidden(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".")  # macOS packs ._x beside each x


def _plain_name(name: str) -> str:
    return name.rpartition(".")[0] if PurePosixPath(name).suffix.lower() in _OPENERS else name


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else _read(content)


def _read(path: Path) -> bytes:
    """The bytes of a file, unpacked where its name says that it is compressed."""
    opener = _OPENERS.get(path.suffix.lower())
    try:
        with opener(path) if opener else open(path, "rb") as file:
            return _at_most(file, MAX_FILE, str(path))
    except _DAMAGE as error:
        raise _damaged(path, error) from None


class _Header(tarfile.TarInfo):
    """A header; tarfile reads long names and remarks whole, before there is a member that could be looked at."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As tarfile's own. Raises TarError for a name or remark that is too long."""
        header = super().frombuf(buf, encoding, errors)
        if not header.isreg() and header.size > MAX_HEADER:
            raise tarfile.TarError(f"{header.name!r} has a header of {header.size:,} bytes")
        return header


def _unpack_tar(path: Path) -> list[tuple[str, bytes]]:
    try:
        with tarfile.open(path, tarinfo=_Header) as archive:
            return list(_tar_members(path, archive))
    except _DAMAGE as error:
        raise _damaged(path, error) from None


def _tar_members(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    total = 0
    for number, member in enumerate(archive):  # slow: the archive is unpacked once, in order
        _check_member(path, number, member.name)
        if member.isdir() or _is_hidden(member.name):
            continue
        if not member.isreg():
            raise UserError(f"{path}: {member.name} is a link or a device, which no benchmark needs; repack it")
        total += member.size
        _check_size(path, member.name, member.size, total)
        file = archive.extractfile(member)
        assert file is not None, "a regular member can be read"
        yield member.name, file.read()


def _unpack_zip(path: Path) -> list[tuple[str, bytes]]:
    found, total = [], 0
    try:
        with zipfile.ZipFile(path) as archive:
            for number, member in enumerate(archive.infolist()):
                _check_member(path, number, member.filename)
                if member.is_dir() or _is_hidden(member.filename):
                    continue
                if member.flag_bits & 1:
                    raise UserError(f"{path}: is encrypted; unpack it, and name the folder")
                total += member.file_size
                _check_size(path, member.filename, member.file_size, total)
                with archive.open(member) as file:
                    found.append((member.filename, _at_most(file, member.file_size, str(path))))
    except _DAMAGE as error:
        raise _damaged(path, error) from None
    return found


def _check_member(path: Path, number: int, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise UserError(f"{path}: {name!r} points out of the archive; do not trust it")
    if number >= MAX_MEMBERS:
        raise UserError(f"{path}: holds more than {MAX_MEMBERS:,} files; no benchmark has as many")


def _check_size(path: Path, name: str, size: int, total: int) -> None:
    if size > MAX_FILE or total > MAX_ARCHIVE:
        raise UserError(
            f"{path}: {name} unpacks to more than {MAX_FILE >> 20} MiB, or all files to {MAX_ARCHIVE >> 20}"
        )


def _at_most(file: IO[bytes], limit: int, where: str) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise UserError(f"{where}: unpacks to more than {limit:,} bytes; no benchmark is as large")
    return data


def _damaged(path: Path, error: BaseException) -> UserError:
    return UserError(f"{path}: damaged or incomplete ({error}); get the file again")
