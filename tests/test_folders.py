"""What is found below a folder: links, loops, pipes, folders without permission; each is read or counted as broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from raw_inputs import HTML, content, read_all

from data_pipeline.config import Source
from data_pipeline.reading.inputs import list_shards


def test_links_folders_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Every folder once, by its own name where it has one here; what leads nowhere, or above, is a broken document."""
    web, other = tmp_path / "web", tmp_path / "别处"
    for folder in (web / "b", other / "x"):
        folder.mkdir(parents=True)
    for path in (web / "b" / "1.html", web / "z.html", other / "2.html", other / "x" / "3.html"):
        path.write_bytes(HTML)
    links = {"a": "b", "here": ".", "up": "..", "far": "../别处", "far2": "../别处", "self": "self", "none": "nowhere",
             "file.html": "b/1.html", "b/back": "..", "m": "../别处/x"}  # fmt: skip
    for name, target in links.items():
        (web / name).symlink_to(target)
    os.mkfifo(web / "pipe.html")
    found = {d.id.removeprefix("web/"): content(d) for d in read_all(web)}
    assert found == dict.fromkeys(
        ["b/1.html", "z.html", "file.html", "far/2.html", "far/x/3.html"], HTML
    ) | dict.fromkeys(["up", "self", "none", "pipe.html"], "read:unreadable")
    assert [s.files for s in list_shards({"web": Source(str(web))}, 1)] == [
        s.files for s in list_shards({"web": Source(str(web))}, 1)
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "secret.html").write_bytes(HTML)
    (tmp_path / "folder").mkdir()
    for name in ("secret.html", "folder"):
        (tmp_path / name).chmod(0)
    (tmp_path / "z.html").write_bytes(HTML)
    found = {d.id: content(d) for d in read_all(tmp_path)}
    (tmp_path / "folder").chmod(0o700)
    assert found == {"web/secret.html": "read:unreadable", "web/folder": "read:unreadable", "web/z.html": HTML}


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As test_no_permission, also where root runs the tests."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "z.html").write_bytes(HTML)
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    found = read_all(tmp_path)
    assert {d.id: content(d) for d in found} == {"web/secret": "read:unreadable", "web/z.html": HTML}
    assert "a folder that cannot be listed" in next(d.text for d in found if d.id == "web/secret")
