"""Runs of encoded documents: sorted, and any range of keys of a source and split comes back as it went in."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.tokens import runs
from data_pipeline.tokens.runs import ROW, SPLITS, arrange, read_rows, read_tokens, write_run

TOP = 1 << 64
KEYS = st.integers(0, TOP - 1) | st.integers(0, 3) | st.integers(TOP - 3, TOP - 1)
DOCUMENTS = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), KEYS, st.lists(st.integers(0, 999), min_size=1, max_size=5)),
    min_size=1,
    max_size=12,
)
Some = list[tuple[int, bool, int, list[int]]]


def write(folder: Path, some: Some) -> dict[int, runs.Stretch]:
    """A run of documents (source, held out, key, tokens); the cluster is the number of the document."""
    rows = np.zeros(len(some), dtype=ROW)
    rows["key"] = np.array([key for _, _, key, _ in some], dtype=np.uint64)
    rows["length"] = [len(tokens) for *_, tokens in some]
    rows["start"] = np.cumsum(rows["length"]) - rows["length"]
    rows["cluster"] = np.arange(len(some))
    tokens = np.array([t for *_, tokens in some for t in tokens], dtype=np.uint16)
    sources, held = np.array([s for s, *_ in some]), np.array([h for _, h, *_ in some])
    return write_run(folder, "web-00000/00000", tokens, rows, sources, held)


@settings(max_examples=30, deadline=None)
@given(some=DOCUMENTS, low=KEYS, high=KEYS | st.just(TOP), block=st.integers(1, 9))
def test_ranges_of_keys(some: Some, low: int, high: int, block: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        patch.setattr(runs, "BLOCK_TOKENS", block)
        folder = Path(name)
        found = write(folder, some)
        assert set(found) == {source for source, *_ in some}
        for source, stretch in found.items():
            for split in SPLITS:
                mine = [
                    (key, i) for i, (s, held, key, _) in enumerate(some) if s == source and held == (split != "train")
                ]
                wanted = [i for key, i in sorted(mine) if low <= key < high]  # of equal keys, the earlier first
                rows = read_rows(folder, stretch.run, *stretch.rows(split), low, high)
                assert rows["cluster"].tolist() == wanted
                out = np.empty(int(rows["length"].sum()), dtype=np.uint16)
                read_tokens(folder, stretch.run, rows, out)
                assert out.tolist() == [t for i in wanted for t in some[i][3]]
                out = np.empty(int(rows["length"][::2].sum()), dtype=np.uint16)  # what does not stand together
                read_tokens(folder, stretch.run, rows[::2], out)
                assert out.tolist() == [t for i in wanted[::2] for t in some[i][3]]


def test_blocks_hold_whole_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "BLOCK_TOKENS", 4)
    rows = np.zeros(4, dtype=ROW)
    rows["start"], rows["length"] = [4, 0, 11, 9], [5, 4, 1, 2]
    blocks = list(arrange(np.arange(12, dtype=np.uint32), rows))
    assert [b.tolist() for b, _ in blocks] == [[4, 5, 6, 7, 8], [0, 1, 2, 3], [11, 9, 10]]
    assert [(w.start, w.stop) for _, w in blocks] == [(0, 1), (1, 2), (2, 4)]
    assert list(arrange(np.arange(3), rows[:0])) == []


def test_a_cut_run_is_named(tmp_path: Path) -> None:
    (stretch,) = write(tmp_path, [(0, False, 5, [1, 2, 3])]).values()
    path = tmp_path / "web-00000" / "00000.tokens"
    path.write_bytes(path.read_bytes()[:4])
    with pytest.raises(RuntimeError, match="00000.tokens: cut off"):
        read_tokens(tmp_path, stretch.run, read_rows(tmp_path, stretch.run, 0, 1, 0, TOP), np.empty(3, np.uint16))
