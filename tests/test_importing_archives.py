"""eval.importing.archives: a folder looks the same packed or not; what is damaged, too large or unsafe is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import benchmark_layouts as layouts
import pytest

from eval.importing import archives
from eval.importing.archives import Files
from mindllm.config import UserError


def test_archives_and_compressed_files_look_like_folders(tmp_path: Path) -> None:
    layouts.tar(tmp_path / "a.tar.gz", {"dev/x.csv": "一"})
    layouts.write(tmp_path / "b.jsonl.gz", "b")
    layouts.write(tmp_path / "c.txt.bz2", "\ufeffc")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("test/y.csv", "臺")
    layouts.write(tmp_path / ".hidden.csv", "h")
    files = Files(tmp_path)
    assert files.matching("*") == [
        (f"{tmp_path}/{name}", text)
        for name, text in [("a.tar.gz/dev/x.csv", "一"), ("b.jsonl", "b"), ("c.txt", "c"), ("d.zip/test/y.csv", "臺")]
    ]
    assert files.matching("v/x.csv") == [] and files.one("nothing") is None
    assert files.one("x.csv", "y.csv") == (f"{tmp_path}/a.tar.gz/dev/x.csv", "一")


def test_two_different_files_of_one_name_are_a_question(tmp_path: Path) -> None:
    layouts.write(tmp_path / "test.jsonl.gz", "a")
    layouts.write(tmp_path / "old" / "test.jsonl", "a")
    assert Files(tmp_path).one("test.jsonl")
    layouts.write(tmp_path / "old" / "test.jsonl", "b")
    with pytest.raises(UserError, match="differ, and both look like test.jsonl"):
        Files(tmp_path).one("test.jsonl")


def test_a_file_that_is_there_packed_and_not(tmp_path: Path) -> None:
    layouts.write(tmp_path / "test.jsonl.gz", "a")
    layouts.write(tmp_path / "test.jsonl", "a")
    assert Files(tmp_path).one("test.jsonl") == (f"{tmp_path}/test.jsonl", "a")
    layouts.write(tmp_path / "test.jsonl", "b")
    with pytest.raises(UserError, match="test.jsonl is there twice"):
        Files(tmp_path)


def test_what_macos_packs_beside_each_file_is_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed, zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name, data in (("test/x.csv", b"x"), ("test/._x.csv", b"\xff"), ("__MACOSX/test/._x.csv", b"\xff")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
            archive.writestr(name, data)
    assert [text for _, text in Files(tmp_path).matching("test/*.csv")] == ["x", "x"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_unpacks_to_too_much_is_refused(tmp_path: Path, kind: bytes) -> None:
    """It would be read whole, and taken apart for hours, before the archive has a member."""
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 8 << 30
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2048)))
    with pytest.raises(UserError, match="a.tar.gz: damaged or incomplete .*header of 8,589,934,592 bytes"):
        Files(tmp_path)


@pytest.mark.parametrize("name", ["../x.csv", "/etc/x.csv", "a/../../x.csv", "..\\x.csv"])
def test_paths_out_of_an_archive_are_refused(tmp_path: Path, name: str) -> None:
    layouts.tar(tmp_path / "tar" / "a.tar.gz", {name: "x"})
    (tmp_path / "zip").mkdir()
    with zipfile.ZipFile(tmp_path / "zip" / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    for kind in ("tar", "zip"):
        with pytest.raises(UserError, match="points out of the archive"):
            Files(tmp_path / kind)


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("x.csv")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(UserError, match="x.csv is a link"):
        Files(tmp_path)


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILE", 1000)
    monkeypatch.setattr(archives, "MAX_ARCHIVE", 1500)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    big, half = "x" * 1001, "x" * 800
    for number, files in enumerate([{"a": big}, {"a": half, "b": half}, dict.fromkeys("abcd", "x")]):
        layouts.tar(tmp_path / f"t{number}" / "a.tar.gz", files)
        (tmp_path / f"z{number}").mkdir()
        with zipfile.ZipFile(tmp_path / f"z{number}" / "a.zip", "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        for kind in "tz":
            with pytest.raises(UserError, match="more than"):
                Files(tmp_path / f"{kind}{number}")
    for suffix, pack in ((".gz", gzip.compress), (".bz2", bz2.compress)):
        (tmp_path / "single").mkdir(exist_ok=True)
        (tmp_path / "single" / f"a.txt{suffix}").write_bytes(pack(big.encode()))
        with pytest.raises(UserError, match="unpacks to more than 1,000 bytes"):
            Files(tmp_path / "single").matching("a.txt")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.txt.gz", "a.txt.bz2"])
@pytest.mark.parametrize("cut", [0.0, 0.5])
def test_damaged_archives_are_named(tmp_path: Path, name: str, cut: float) -> None:
    buffer = io.BytesIO()
    text = os.urandom(3000)
    if name.endswith(".tar.gz"):
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            member = tarfile.TarInfo("x")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    elif name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr("x", text)
    else:
        buffer.write((gzip if name.endswith(".gz") else bz2).compress(text))
    data = buffer.getvalue()
    (tmp_path / name).write_bytes(data[: int(len(data) * cut)] or b"no archive")
    with pytest.raises(UserError, match=f"{name}: damaged or incomplete"):
        Files(tmp_path).matching("*")
