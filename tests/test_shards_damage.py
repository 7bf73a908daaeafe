"""Whatever happens to a folder of token shards is found, all of it, and told with the file and the cause."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_export
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm import shard_faults
from mindllm.shard_faults import check_meta, list_faults
from mindllm.shards import Shards, ShardWriter
from mindllm.stage import hash_json
from mindllm.tokenizer import Tokenizer

TEXTS = [*tiny_export.TEXTS, "", "秋天的風很涼", "Où ? 🙂"]
LANGUAGES = ("zh-Hans", "zh-Hant", "en")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tiny_export.write_tokenizer(tmp_path_factory.mktemp("run") / "tokenizer")


@pytest.fixture(scope="module")
def whole(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files in uint16."""
    folder = tmp_path_factory.mktemp("web") / "train"
    writer = ShardWriter(folder, tokenizer.vocab_size, tokenizer.eos_id, tokenizer.fingerprint, 200)
    for number, (text, ids) in enumerate(zip(TEXTS, tokenizer.encode_batch(TEXTS), strict=True)):
        writer.add(ids, len(text.encode()), LANGUAGES[number % 3])
    writer.finish()
    assert len(list(folder.glob("*.bin"))) == 3
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "train"))


def find(folder: Path, tokenizer: Tokenizer | None = None) -> list[str]:
    """The faults, the folder left out."""
    return [line.removeprefix(f"{folder}/") for line in list_faults(folder, tokenizer)]


def edit(folder: Path, change: Callable[[dict[str, Any]], None], hide: bool = True) -> None:
    """Change meta.json; `hide` makes its fingerprint right again."""
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    change(meta)
    if hide:
        meta["fingerprint"] = hash_json({k: v for k, v in meta.items() if k != "fingerprint"})
    path.write_text(json.dumps(meta))


def rewrite(folder: Path, name: str, dtype: str, change: Callable[[np.ndarray], None], hide: bool = True) -> None:
    """Change the numbers of a file; `hide` makes its hash right again."""
    path = folder / name
    numbers = np.fromfile(path, dtype=dtype)
    change(numbers)
    path.write_bytes(numbers.tobytes())

    def new_hash(meta: dict[str, Any]) -> None:
        key = "hash" if path.suffix == ".bin" else "ends_hash"
        meta["files"][int(path.stem)][key] = xxhash.xxh3_128_hexdigest(path.read_bytes())

    if hide:
        edit(folder, new_hash)


def test_nothing_is_wrong_with_a_whole_folder(whole: Path, tokenizer: Tokenizer) -> None:
    assert find(whole) == find(whole, tokenizer) == []
    Shards(whole).verify(tokenizer)


def test_a_flipped_bit(folder: Path, tokenizer: Tokenizer) -> None:
    rewrite(folder, "00001.bin", "u2", lambda ids: ids.__setitem__(3, ids[3] ^ 8), hide=False)
    assert "00001.bin: content does not match its hash in meta.json; damaged" in find(folder)
    shards = Shards(folder)
    with pytest.raises(RuntimeError, match="00001.bin: content does not match its hash"):
        shards.verify(tokenizer)
    assert len(find(folder, tokenizer)) == 1, "that the bytes of text are others, too, is no fault of its own"


def test_every_flipped_bit_is_found(folder: Path) -> None:
    """Any bit of any file, meta.json included."""
    paths = sorted(folder.iterdir())

    @settings(max_examples=80, deadline=None)
    @given(file=st.integers(0, len(paths) - 1), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def check(file: int, place: float, bit: int) -> None:
        path = paths[file]
        data = path.read_bytes()
        where = int(place * len(data))
        path.write_bytes(data[:where] + bytes([data[where] ^ 1 << bit]) + data[where + 1 :])
        try:
            if path.name == "meta.json" and same_value(data, path.read_bytes()):
                return  # a blank that became a line break
            assert any(line.startswith(path.name) or path.name == "meta.json" for line in find(folder))
        finally:
            path.write_bytes(data)

    check()


def same_value(a: bytes, b: bytes) -> bool:
    try:
        return bool(json.loads(a) == json.loads(b))
    except ValueError:
        return False


def test_a_cut_file_and_one_that_is_gone(folder: Path) -> None:
    sizes = {p.name: p.stat().st_size for p in folder.iterdir()}
    for name in ("00000.bin", "00002.ends"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-2])
    (folder / "00001.bin").unlink()
    assert find(folder) == [
        f"00000.bin: {sizes['00000.bin'] - 2} bytes instead of {sizes['00000.bin']}",
        "00001.bin: missing, though meta.json names it",
        f"00002.ends: {sizes['00002.ends'] - 2} bytes instead of {sizes['00002.ends']}",
    ]  # all of them, not only the first


def test_files_that_nobody_names(folder: Path) -> None:
    shutil.copy(folder / "00000.bin", folder / "00003.bin")
    (folder / ".00003.bin.tmp").write_bytes(b"half")  # of a kill: no harm
    assert find(folder) == ["00003.bin: meta.json does not name it"]


def test_an_id_beyond_the_vocabulary_whose_hash_is_right(folder: Path, tokenizer: Tokenizer) -> None:
    size = tokenizer.vocab_size
    rewrite(folder, "00001.bin", "u2", lambda ids: ids.__setitem__([2, 5], [size, 65_535]))
    for found in (find(folder), find(folder, tokenizer)):
        assert f"00001.bin: ids outside the vocabulary of {size}: 2, the first at token 2" in found


def test_an_eos_too_many_and_one_too_few(folder: Path, tokenizer: Tokenizer) -> None:
    ends = np.fromfile(folder / "00001.ends", dtype="u8")
    last, eos = int(ends[1]) - 1, tokenizer.eos_id
    rewrite(folder, "00001.bin", "u2", lambda ids: ids.__setitem__([last, last + 2], [9, eos]))
    expected = [
        f"00001.bin: tokens that end a document inside of one: 1, the first at token {last + 2}",
        f"00001.bin: documents that end without the token for it: 1, the first at token {last}",
    ]
    assert find(folder) == expected == [line for line in find(folder, tokenizer) if "bytes" not in line]


def test_ends_out_of_order(folder: Path) -> None:
    rewrite(folder, "00000.ends", "u8", lambda ends: ends.__setitem__([1, 2], ends[[2, 1]]))
    assert find(folder) == ["00000.ends: ends do not grow: document 2 does not end after the one before it (1 such)"]
    rewrite(folder, "00001.ends", "u8", lambda ends: ends.__setitem__(-1, ends[-1] + 1))
    assert re.match(r"00001.ends: the last document ends at \d+, but the file has \d+ tokens", find(folder)[1])


def test_another_tokenizer(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    other = tiny_export.write_tokenizer(tmp_path / "other")
    other.fingerprint, other.vocab_size = "0" * 16, other.vocab_size + 1
    (fault,) = find(folder, other)
    assert fault.startswith(f"meta.json: written with tokenizer {tokenizer.fingerprint} with {tokenizer.vocab_size}")
    assert f"{tmp_path / 'other'} is {'0' * 16}" in fault


def test_bytes_are_those_of_the_text(folder: Path, tokenizer: Tokenizer) -> None:
    right = sum(len(text.encode()) for text in TEXTS)

    def change(meta: dict[str, Any]) -> None:
        meta["bytes"] += 1
        meta["languages"]["en"]["bytes"] += 1

    edit(folder, change)
    assert find(folder) == []  # nobody can know without the tokenizer
    expected = f"meta.json: bytes {right + 1}, but the tokens stand for {right} bytes of text"
    assert find(folder, tokenizer) == [expected]


def test_an_edited_meta(folder: Path) -> None:
    edit(folder, lambda meta: meta.update(documents=meta["documents"] + 1), hide=False)
    total = Shards(folder).meta["documents"]
    assert find(folder) == [
        "meta.json: content does not match its fingerprint; edited",
        f"meta.json: documents {total}, but those of its files add up to {total - 1}",
        f"meta.json: documents {total}, but those of its languages add up to {total - 1}",
    ]


def test_a_wrong_dtype(folder: Path, tokenizer: Tokenizer) -> None:
    edit(folder, lambda meta: meta.update(dtype="uint32"))
    found = find(folder)
    assert found[0] == f"meta.json: dtype uint32, but a vocabulary of {tokenizer.vocab_size} is written as uint16"
    assert [line.split(":")[0] for line in found[1:]] == ["00000.bin", "00001.bin", "00002.bin"]
    assert all("bytes instead of" in line for line in found[1:])
    edit(folder, lambda meta: meta.update(dtype="object"))
    assert find(folder) == ["meta.json: dtype 'object' is neither uint16 nor uint32"]


def test_files_in_another_order(folder: Path) -> None:
    edit(folder, lambda meta: meta["files"].reverse())
    assert find(folder) == ["meta.json: files 00002, 00001, 00000 are not in order, or named twice"]


def test_no_meta_and_one_that_is_no_json(folder: Path) -> None:
    (folder / "meta.json").write_text("{")
    assert find(folder)[0].startswith("meta.json: damaged (")
    (folder / "meta.json").unlink()
    assert find(folder) == ["meta.json: missing; the folder was never complete, or has lost it"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def test_any_value_in_meta_is_a_fault_and_no_crash(folder: Path) -> None:
    path = folder / "meta.json"
    original = path.read_text()
    keys = [*json.loads(original), *(("files", 0, k) for k in json.loads(original)["files"][0]), ("languages", "en")]

    @settings(max_examples=150, deadline=None)
    @given(key=st.sampled_from(keys), value=VALUES)
    def check(key: str | tuple[str | int, ...], value: Any) -> None:
        meta = json.loads(original)
        node = meta
        *parents, last = (key,) if isinstance(key, str) else key
        for parent in parents:
            node = node[parent]
        if node[last] != value:
            node[last] = value
            path.write_text(json.dumps(meta))
            assert find(folder)
            found, faults = check_meta(folder)
            assert faults and (found is None or found == meta)

    check()
    path.write_text(original)


def test_names_cannot_lead_out_of_the_folder(folder: Path) -> None:
    edit(folder, lambda meta: meta["files"][0].update(name="../../etc"))
    assert find(folder) == ["meta.json: files[0]: no name of the right kind"]


def test_blocks_change_nothing(folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(folder, "00001.bin", "u2", lambda ids: ids.__setitem__([2, 40], tokenizer.eos_id))
    rewrite(folder, "00000.ends", "u8", lambda ends: ends.__setitem__([1, 2], ends[[2, 1]]))
    expected = find(folder, tokenizer)
    for size in (1, 2, 7):
        monkeypatch.setattr(shard_faults, "BLOCK", size)
        assert find(folder, tokenizer) == expected
