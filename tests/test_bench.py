"""The benches: they start, read collections of pages, measure extraction, and compare with ours alone."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import clean_pages  # noqa: E402
import common  # noqa: E402
import common_judge  # noqa: E402
import dedup as bench_dedup  # noqa: E402
import extraction  # noqa: E402
import memory  # noqa: E402
import minhash as bench_minhash  # noqa: E402
import quality as bench_quality  # noqa: E402

from mindllm.text import units  # noqa: E402

ENGLISH = "The ferry left the harbour at six in the morning."
CHINESE = "渡轮在清晨六点离开港口，乘客只有十一人。"
TRADITIONAL = "渡輪在清晨六點離開港口，乘客只有十一人。"


def page(text: str) -> bytes:
    return f"<html><body><p>{text}</p></body></html>".encode()


def archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_every_script_runs_from_anywhere_and_is_in_the_table(tmp_path: Path) -> None:
    scripts = sorted(p for p in (ROOT / "bench").glob("*.py") if not p.name.startswith("common"))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, str(script), "--help"], **options) for script in scripts]
    table = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    for script, process in zip(scripts, started, strict=True):
        out, _ = process.communicate()
        assert process.returncode == 0 and out.startswith(f"usage: {script.name}"), script
        assert f"| `{script.name}` |" in table and f"`python bench/{script.name}" in table, script


def test_shingles_of_both_languages() -> None:
    assert extraction.shingles("a-b c d e") == Counter([("a", "b", "c", "d"), ("b", "c", "d", "e")])
    assert extraction.shingles("春眠不觉晓") == Counter([tuple("春眠不觉"), tuple("眠不觉晓")])
    assert extraction.shingles("用 Python3 写") == Counter([("用", "Python3", "写")])  # fewer than four: one shingle
    assert extraction.shingles("。，…") == Counter()


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, TRADITIONAL])
def test_judge(text: str) -> None:
    assert extraction.judge(text, text) == (1, 1)
    assert extraction.judge(text, "") == (None, 0)
    assert extraction.judge("", text) == (0, None)
    n = extraction.shingles(text).total()
    assert extraction.judge(text, text + "\n" + text) == (
        pytest.approx(n / (2 * n + 3)),
        1,
    )  # 3 shingles cross the line


def test_f1_is_of_the_averages() -> None:
    results = [extraction.Result("a", "", 1.0, 0.5, 0), extraction.Result("b", "", None, 0.0, 0)]
    assert extraction.f1(results) == (1.0, 0.25, pytest.approx(0.4))
    assert extraction.f1([]) == (0.0, 0.0, 0.0)


@given(st.text("ab 春眠"), st.text("ab 春眠"))
def test_precision_and_recall_change_places(one: str, other: str) -> None:
    assert extraction.judge(one, other) == extraction.judge(other, one)[::-1]
    assert all(value is None or 0 <= value <= 1 for value in extraction.judge(one, other))


def test_the_three_layouts(tmp_path: Path) -> None:
    lines, news, pairs = (tmp_path / name for name in ("lines", "news", "pairs"))
    for folder in (lines, news, pairs):
        folder.mkdir()
    row = {"key": "a", "lang": "zh-hans", "text": CHINESE, "html_b64": base64.b64encode(page(CHINESE)).decode()}
    empty = {**row, "key": "b", "text": " "}
    (lines / "pages.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, (row, empty))).encode()))
    (news / "ground-truth.json").write_text(json.dumps({"k": {"articleBody": ENGLISH}, "gone": {"articleBody": "x"}}))
    (news / "html").mkdir()
    (news / "html" / "k.html.gz").write_bytes(gzip.compress(page(ENGLISH)))
    archive(pairs / "pages.tar.gz", {"original/p.html": page(TRADITIONAL), "cleaned/p.txt": TRADITIONAL.encode()})

    found = list(extraction.sets_below([str(tmp_path)]))
    assert [folder.name for folder in found] == ["lines", "news", "pairs"]
    assert [extraction.read_set(folder) for folder in found] == [
        [extraction.Page("a", "zh-hans", page(CHINESE), CHINESE)],
        [extraction.Page("k", "", page(ENGLISH), ENGLISH)],
        [extraction.Page("p", "", page(TRADITIONAL), TRADITIONAL)],
    ]

    archive(news / "html.tar.gz", {"html/k.html.gz": gzip.compress(page(ENGLISH))})
    (news / "html" / "k.html.gz").unlink()
    (news / "html").rmdir()
    assert extraction.read_set(news) == [extraction.Page("k", "", page(ENGLISH), ENGLISH)]


def test_a_folder_without_sets(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no pages.jsonl.gz"):
        list(extraction.sets_below([str(tmp_path)]))


def test_extraction_in_fresh_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive(tmp_path / "pages.tar.gz", {"original/p.html": page(ENGLISH * 9), "cleaned/p.txt": (ENGLISH * 9).encode()})
    extraction.compare([str(tmp_path)], {extraction.OURS: sys.executable}, worst=1)
    out = capsys.readouterr().out.splitlines()
    assert out[1].split()[3:7] == [extraction.OURS, "1.000", "1.000", "1.000"]
    assert out[2].split()[-1] == "p"


def test_pages_of_folders_and_archives(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.html").write_bytes(page(ENGLISH))
    (tmp_path / "one" / "b.html").write_bytes(page(CHINESE))
    archive(
        tmp_path / "two.tar.gz",
        {"x/c.html": page(ENGLISH), "x/d.html.gz": gzip.compress(page(CHINESE)), "x/notes.txt": b"no page"},
    )
    one, two = str(tmp_path / "one"), str(tmp_path / "two.tar.gz")
    assert [p.data for p in common.read_pages([one, two])] == [page(ENGLISH), page(CHINESE)] * 2
    assert [p.data for p in common.read_pages([one, two], "b.html")] == [page(CHINESE)]
    assert [p.data for p in common.read_pages([str(tmp_path)], "d.html")] == [page(CHINESE)]
    with pytest.raises(SystemExit, match="no HTML pages here"):
        common.read_pages([one], "c.html")


def test_texts_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "一").mkdir()
    (tmp_path / "一" / "b.txt").write_text(CHINESE, encoding="utf-8")
    (tmp_path / "一" / "a.txt.gz").write_bytes(gzip.compress(ENGLISH.encode() + b"\xff"))
    found = common.text_files([tmp_path, str(tmp_path / "一" / "b.txt")])
    assert [common.read_text(path) for path in found] == [ENGLISH, CHINESE, CHINESE]
    with pytest.raises(SystemExit, match="无: no such file"):
        common.text_files([tmp_path, "无"])


def test_our_side_alone(capsys: pytest.CaptureFixture[str]) -> None:
    pages = [clean_pages.SMALL_PAGE, page("")]
    results = clean_pages.compare(pages, {"ours": sys.executable}, 2, clean_pages.CONFIG)
    assert [r["kept"] for r in results["ours"]] == [1, 1]
    assert all(r["cpu"] > 0 and r["wall"] > 0 and r["characters"] > 500 for r in results["ours"])
    clean_pages.report(results, pages)
    assert "--datatrove PYTHON" in capsys.readouterr().out


def test_the_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    passes = {
        side: [{"cpu": s, "wall": s, "kept": 1, "characters": 5}] for side, s in {"ours": 1, "datatrove": 4}.items()
    }
    clean_pages.report(passes, [b"x" * 1000])
    assert "4.00 (4.00 to 4.00)" in capsys.readouterr().out


TEXTS = [" ".join(f"{a}{b} {b}{a}, {a}." for a in "bcdfgklm" for b in ("an", "elt", "ir", f"o{n}")) for n in range(12)]
TEXTS += ["".join(chr(0x4E00 + 97 * n + 3 * i) + ("，" if i % 9 == 0 else "") for i in range(700)) for n in range(3)]


def test_signatures_of_our_side_alone(capsys: pytest.CaptureFixture[str]) -> None:
    sets = bench_minhash.cut([CHINESE * 40, TRADITIONAL, ENGLISH * 20], (100,))
    assert list(sets) == ["zh 100", "en 100"]
    for documents in sets.values():
        assert max(map(len, documents)) == 100 and bench_minhash.num_bytes(documents) >= bench_minhash.LEAST_BYTES
    assert list(bench_minhash.cut([ENGLISH], (100,))) == ["en 100"]
    small = {name: documents[:9] for name, documents in sets.items()}
    results = bench_minhash.compare(small, {bench_minhash.OURS: sys.executable}, 1)
    assert [set(seconds) for seconds in results[bench_minhash.OURS]] == [{"zh 100", "en 100"}]
    bench_minhash.report(small, results)
    assert "--peers PYTHON" in capsys.readouterr().out


def test_how_many_times_faster(capsys: pytest.CaptureFixture[str]) -> None:
    results = {"mindllm": [{"en 5": 1.0}, {"en 5": 2.0}], "datasketch sha1": [{"en 5": 8.0}, {"en 5": 4.0}]}
    bench_minhash.report({"en 5": ["abcde"] * 3}, results)
    assert "5.0 (2.0 to 8.0)" in capsys.readouterr().out


def test_datasketch_is_given_the_same_shingles(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasketch

    given: list[list[bytes]] = []
    monkeypatch.setenv("UNIT", bench_minhash.unit_pattern())
    monkeypatch.setattr(datasketch.MinHash, "update_batch", lambda self, shingles: given.append(list(shingles)))
    bench_minhash.datasketch("datasketch xxh32")([ENGLISH, CHINESE])
    for text, found in zip((ENGLISH, CHINESE), given, strict=True):
        assert {tuple(shingle.decode().split()) for shingle in found} == bench_dedup.shingles(text)


def test_planted_copies_cover_the_range_of_similarity() -> None:
    documents = bench_dedup.plant(TEXTS)
    assert documents == bench_dedup.plant(TEXTS) != bench_dedup.plant(TEXTS, seed=2)
    by_id = {d.id: d for d in documents}
    copies = [d for d in documents if d.original]
    assert len(by_id) == len(documents) == 2 * len(copies) and {d.lang for d in documents} >= {"zh-Hans"}
    assert {len(units(d.text)) for d in documents if not d.original} == {100, 200, 400}
    found = sorted(bench_dedup.jaccard(d.text, by_id[d.original].text) for d in copies)
    assert 0.3 < found[0] < 0.6 and found[-1] > 0.9


def test_synthetic_documents_can_be_made_again() -> None:
    documents = [bench_dedup.synthetic(number) for number in range(600)]
    assert documents == [bench_dedup.synthetic(number) for number in range(600)]
    copies = [d for d in documents if d.original]
    assert 140 < len(copies) < 220 and {d.lang for d in copies} == {"zh-Hans", "zh-Hant", "en"}
    assert all(int(d.original) < int(d.id) and documents[int(d.original)].lang == d.lang for d in copies)
    assert all(not documents[int(d.original)].original for d in copies)
    found = [bench_dedup.jaccard(d.text, documents[int(d.original)].text) for d in copies]
    assert max(found) == 1 and 0.3 < sum(found) / len(found) < 0.95


def test_recall_and_precision(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"a": ENGLISH, "b": ENGLISH, "c": ENGLISH + " Nobody knew why.", "d": CHINESE}
    by_id = {id: bench_dedup.Planted(id, text, "en", "" if id == "a" else "a") for id, text in texts.items()}
    pairs = [by_id["b"], by_id["c"], by_id["d"]]
    bench_dedup.judge("name", pairs, by_id.__getitem__, {"b": "a", "d": "b"}, 0.65)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["en", "0.0", "(1)", "-", "-", "-", "-", "100.0", "(1)", "100.0", "(1)"]
    assert "en 50.0 (2), all 50.0 (2)" in lines[-1]  # d is no copy of b


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc")
def test_what_a_command_needs(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'file')!r}, 'wb').write(b'x' * 3_000_000); a = b'x' * 80_000_000; input()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], input=b'', timeout=60)"
    slow = code.replace("input()", "__import__('time').sleep(.3)")
    usage = memory.watch([sys.executable, "-c", child.replace(repr(code), repr(slow))], tmp_path)
    assert 80 < usage.largest <= usage.together < 400 and usage.disk >= 3 and usage.seconds > 0.3
    with pytest.raises(SystemExit, match="(?s)exit code 3.*no luck"):
        memory.watch([sys.executable, "-c", "print('no luck'); raise SystemExit(3)"])


def test_steps_that_fit_into_the_minutes() -> None:
    seconds = [30.0, 2.0, 1.0, 1.0]
    assert bench_quality.steps_in(seconds, 1.0) == 31  # the first one compiles, then 30 of the median second
    assert bench_quality.steps_in(seconds, 0.1) == 1  # at least one
    assert bench_quality.minutes_of(seconds, 2) == pytest.approx(32 / 60)


def test_bits_per_byte_by_source_and_language(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common_judge, "model_bits", lambda model, documents, eos, size: np.array(documents) * model)
    held: Any = {"text-诗-zh": ([8, 4], 6), "text-d2l-zh": ([10], 5), "text-d2l-en": ([30], 10)}
    ours = common_judge.bits_per_byte(1.0, held, 0)
    assert ours == {"total": 52 / 21, "zh": 2.0, "en": 3.0, "other": 0.0,
                    "text-诗-zh": 2.0, "text-d2l-zh": 2.0, "text-d2l-en": 3.0}  # fmt: skip
    common_judge.print_table(ours, bench_quality.bits_per_byte(2.0, held, 0))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2] == ["zh", "2.0000", "4.0000", "-50.0%"] and rows[4] == ["other", "0.0000", "0.0000"]


def test_a_curve_of_both(tmp_path: Path) -> None:
    common_judge.draw(str(tmp_path / "a.png"), {"ours": [(1.0, 3.0), (2.0, 2.0)], "theirs": [(1.0, 4.0)]})
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_parts_of_a_turn_add_up() -> None:
    import loop as bench_loop  # slow: DeepSpeed

    clock = bench_loop.Clock()
    clock.begin()
    assert [clock.timed("data", lambda number: number + 1)(n) for n in (1, 2)] == [2, 3]
    with pytest.raises(KeyError), clock.part("pass"):
        raise KeyError
    turn = clock.turn()
    assert list(turn.parts) == ["data", "pass", "rest"] and sum(turn.parts.values()) == pytest.approx(turn.wall)


@pytest.mark.slow
def test_the_loop_computes_what_the_bare_step_does() -> None:
    sizes = (
        "--rounds 1 --turn 2 --threads 1 --layers 2 --width 32 --ffn 48 --heads 2 --vocab 300 --seq-len 16 --zero 0,1"
    )
    words = [sys.executable, str(ROOT / "bench" / "loop.py"), *sizes.split(), "--precisions", "fp32"]
    out = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [line.split() for line in out.splitlines() if line.startswith(("ZeRO", "  bare"))]
    assert len(rows) == 4 and len({row[-1] for row in rows}) == 1, "the same loss after four steps"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--documents", "300"]])
def test_dedup_on_planted_copies(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / "texts" / f"{number}.txt").write_text(text, encoding="utf-8")
    command = [sys.executable, str(ROOT / "bench" / "dedup.py"), *(arguments or [str(tmp_path / "texts")])]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [line.split() for line in out.splitlines() if line.startswith("all")]
    assert rows and all(float(row[-2]) > 98 for row in rows)
    assert out.count("recall by true similarity") == 1 + (not arguments)
