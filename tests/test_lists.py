"""Lists of words and hosts: their encodings, what is refused, and when a file counts as changed."""

from __future__ import annotations

import codecs
import gzip
import os
from pathlib import Path

import pytest

from data_pipeline import lists
from data_pipeline.lists import read_text, stamp
from mindllm.config import UserError

TEXT = "词语\n詞語\nword\n"
ALL = ("UTF-16", "UTF-8", "GB18030")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".GZ"])
def test_encodings(tmp_path: Path, encoding: str, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(gzip.compress(TEXT.encode(encoding)) if suffix else TEXT.encode(encoding))
    assert read_text(path, *ALL) == TEXT
    if encoding.startswith("utf-8"):
        assert read_text(str(path), "UTF-8") == TEXT
    else:
        with pytest.raises(UserError, match=f"a.txt{suffix}: is no text in UTF-8$"):
            read_text(path, "UTF-8")


def test_a_marked_file_is_utf_16_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF16_LE + b"odd")
    with pytest.raises(UserError, match="is no text in UTF-16 or UTF-8 or GB18030"):
        read_text(tmp_path / "a.txt", *ALL)


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_LIST_BYTES", 1000)
    (tmp_path / "clipped.gz").write_bytes(gzip.compress(TEXT.encode() * 30)[:-9])
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"a" * 5000))
    (tmp_path / "full.txt").write_bytes(b"a" * 1000)
    assert len(read_text(tmp_path / "full.txt", "UTF-8")) == 1000
    wrong = {
        "none.txt": "FileNotFoundError",
        "": "IsADirectory",
        "clipped.gz": "EOFError",
        "bomb.gz": "more than 1,000",
    }
    for name, said in wrong.items():
        with pytest.raises(UserError, match=said):
            read_text(tmp_path / name, *ALL)
    for path in (tmp_path / "none.txt", "a\0b"):
        with pytest.raises(UserError, match="cannot be read"):
            stamp(path)
        with pytest.raises(UserError, match="cannot be read"):
            read_text(path, *ALL)


def test_stamps_tell_contents_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("一")
    first = stamp(path)
    assert stamp(str(path)) == first and first[0] == str(path)
    os.utime(path, ns=(0, first[1] + 1))
    assert stamp(path) != first
    os.utime(path, ns=(0, first[1]))
    path.write_text("一二")
    assert stamp(path) != first
