"""eval.elo.judges.human: judgements of people in JSON Lines and CSV, pairs and rankings; what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.elo.games import Judgement
from eval.elo.judges.human import read_judgements
from mindllm.config import UserError


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


CSV = """prompt,first,second,verdict,judge,ranking
题一,甲,"b, c",first,王,
题一,"b, c",甲,second,王,
q2,甲,d,tie,,
q2,甲,d,,,
q3,,,,,甲 > b = d
"""


def test_people_judge_in_csv_as_in_json_lines(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    rows: list[dict[str, Any]] = [
        {"prompt": "题一", "first": "甲", "second": "b, c", "verdict": "first", "judge": "王"},
        {"prompt": "题一", "first": "b, c", "second": "甲", "verdict": "second", "judge": "王"},
        {"prompt": "q2", "first": "甲", "second": "d", "verdict": "tie"},
        {"prompt": "q2", "first": "甲", "second": "d", "verdict": None},
        {"prompt": "q3", "ranking": ["甲", ["b", "d"]]},
    ]
    found = read_judgements(tmp_path / "x.csv")
    assert found == read_judgements(write(tmp_path / "x.jsonl", rows)) and len(found) == 7
    assert found[1] == Judgement("题一", "b, c", "甲", "second", "王") and found[-1].verdict == "tie"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "题", "first": "a", "second": "b", "verdict": "A"}, 'x.jsonl:1: verdict: .*got "A"'),
        ({"prompt": "题", "first": "a", "second": "b"}, "verdict"),
        ({"prompt": "题", "first": "a", "second": "a", "verdict": "tie"}, "itself"),
        ({"prompt": "题", "first": "a", "verdict": "tie"}, "second: expected a text"),
        ({"prompt": None, "first": "a", "second": "b", "verdict": "tie"}, "prompt: expected a text"),
        ({"prompt": "题", "ranking": ["a"]}, "ranking"),
        ({"prompt": "题", "ranking": ["a", ["b", "a"]]}, "twice"),
        ({"prompt": "题", "ranking": "a > b"}, "ranking"),
        ({"prompt": "题", "ranking": ["a", 1]}, "ranking"),
        ({"prompt": "题", "ranking": ["a", [], "b"]}, "ranking"),
        ({"prompt": "题", "ranking": ["a", "b "]}, "ranking"),
        ({"prompt": "题", "ranking": ["a", "b"], "verdict": "first"}, "x.jsonl:1: a ranking beside verdict"),
        ({"prompt": "题", "first": "", "second": "b", "verdict": "tie"}, "first: '' is no name"),
        ({"prompt": "题", "first": "a", "second": "甲 ", "verdict": "平"}, '"平"'),
        ({"prompt": "题", "first": "a", "second": "甲 ", "verdict": "tie"}, "second: '甲 ' is no name"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_judgements(write(tmp_path / "x.jsonl", [row]))


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    cases = [
        ("x.jsonl", b"{"),
        ("x.jsonl", b"[1]"),
        ("x.jsonl", b"\xff"),
        ("x.jsonl", b""),
        ("x.txt", b""),
        ("x.csv", b""),
    ]
    cases += [("x.jsonl", rb'{"prompt": "\ud800"}'), ("x.csv", b'prompt,first\n"a'), ("x.csv", b"prompt\na,b\n")]
    for name, data in cases:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            read_judgements(tmp_path / name)


def test_a_wrong_line_of_csv_is_named_behind_blank_ones(tmp_path: Path) -> None:
    heading = "prompt,first,second,verdict"
    cases = {
        f"\n\n{heading}\n\n题,甲,b,first\n题,甲,b,good": ":6: verdict",
        f'{heading}\n\n\n题,甲,b,first\n题,甲,"b': ":5: not CSV",
        "prompt,first,first,verdict\n题,甲,b,first": ":1: two columns are called 'first'",
        f"{heading},ranking\n题,甲,b,first,甲 > b": ":2: a ranking beside first, second, verdict",
    }
    for text, words in cases.items():
        (tmp_path / "x.csv").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=f"x.csv{words}"):
            read_judgements(tmp_path / "x.csv")


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:promtfisecndv\n ', max_size=200).map(str.encode))
def test_no_file_crashes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    for name in ("x.csv", "x.jsonl"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(data)
        try:
            read_judgements(path)
        except UserError as error:
            assert name in str(error)
