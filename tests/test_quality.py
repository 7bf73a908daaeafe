"""The quality cleaner: hashing against a plain reference, exact scores, the model file and its damage, verdicts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from data_pipeline.cleaners import quality
from data_pipeline.cleaners.quality import Model, Quality, fold, gram_rows, load_model, logistic, rounded, save_model
from data_pipeline.document import Document, Drop, Measure
from mindllm.config import UserError

FOLDS = np.array([[ord(c) for c in "AB漢語\t　"], [ord(c) for c in "ab汉语  "]], dtype=np.uint32)
TEXTS = {"zh-Hans": "汉语的文章。" * 9, "zh-Hant": "漢語的文章。" * 9, "en": "An english text. " * 9}


def model(**changes: Any) -> Model:
    weights = rounded(np.random.default_rng(1).normal(size=1 << 10))
    return Model(**{**dict(weights=weights, bias=0.25, sizes=(1, 2, 4), folds=FOLDS, groups=("zh", "en")), **changes})


@pytest.fixture
def path(tmp_path: Path) -> str:
    save_model(tmp_path / "m.safetensors", model())
    return str(tmp_path / "m.safetensors")


def plain_rows(text: str, sizes: tuple[int, ...], bits: int) -> list[int]:
    """The definition, one n-gram after the other, in Python's own integers."""
    codes = [ord(c) * 0x85EBCA6B % 2**32 for c in text]
    codes = [c ^ (c >> 15) for c in codes]
    rows = []
    for size in sizes:
        for start in range(len(codes) - size + 1):
            value = 0
            for code in codes[start : start + size]:
                value = (value * 0x01000193 + code) % 2**32
            rows.append((value * 0x9E3779B1 % 2**32) >> (32 - bits))
    return rows


def all_rows(text: str, sizes: tuple[int, ...], bits: int) -> list[int]:
    points = np.array([ord(c) for c in text], dtype=np.uint32)
    return [int(row) for rows in gram_rows(points, sizes, bits) for row in rows]


@given(st.text("ab 汉漢。\n𠀀", max_size=40), st.sampled_from([(1,), (1, 2, 3), (2, 4), (5,)]), st.integers(8, 20))
def test_rows_against_the_definition(text: str, sizes: tuple[int, ...], bits: int) -> None:
    assert all_rows(text, sizes, bits) == plain_rows(text, sizes, bits)


@given(st.text("ab 汉漢。\n", max_size=60), st.integers(1, 9))
def test_pieces_give_the_same_ngrams(text: str, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "_PIECE", piece)
        assert sorted(all_rows(text, (1, 2, 4), 12)) == sorted(plain_rows(text, (1, 2, 4), 12))


def test_fold() -> None:
    table = model().table
    read = "".join(map(chr, fold("A漢語　\t B\n\n漢", table)))
    assert read == "a汉语 b\n\n汉"
    assert len(fold("", table)) == 0 and len(fold("  ", table)) == 1


@pytest.mark.parametrize("lang", TEXTS)
def test_score_against_the_definition(lang: str) -> None:
    m = model()
    text = "".join(map(chr, fold(TEXTS[lang], m.table)))
    rows = plain_rows(text, m.sizes, m.bits)
    mean = math.fsum(float(m.weights[row]) for row in rows) / len(rows)
    assert m.score(TEXTS[lang]) == logistic(mean + m.bias)
    assert m.score(TEXTS["zh-Hans"]) == m.score(TEXTS["zh-Hant"])  # one script to the model


def test_length_does_not_matter() -> None:
    m = model(sizes=(1,))
    assert m.score("汉语ab" * 50_000) == pytest.approx(m.score("汉语ab"), abs=1e-12)
    assert m.score("") == 0 and model(sizes=(4,)).score("汉语") == 0


def test_rounded_sums_are_exact_in_any_order() -> None:
    weights = rounded(np.random.default_rng(2).normal(size=5000) * 300)
    total = weights.sum(dtype=np.float64)
    assert all(np.random.default_rng(s).permutation(weights).sum(dtype=np.float64) == total for s in range(20))
    assert np.abs(rounded(np.array([1.0, 1e-3])) - [1, 1e-3]).max() < 2**-22
    assert rounded(np.zeros(3)).tolist() == [0, 0, 0]


def test_logistic() -> None:
    assert logistic(0) == 0.5 and logistic(1e6) == 1 and logistic(-1e6) == 0
    assert logistic(2) + logistic(-2) == pytest.approx(1)


def test_the_file(tmp_path: Path, path: str) -> None:
    loaded, made = load_model(path), model(report={"词": [1, 0.5]})
    assert loaded.weights.tobytes() == model().weights.tobytes() and loaded.folds.tolist() == FOLDS.tolist()
    assert (loaded.bias, loaded.sizes, loaded.groups, loaded.report) == (0.25, (1, 2, 4), ("zh", "en"), {})
    for name in ("a", "b"):
        save_model(tmp_path / name, made)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_model(tmp_path / "a").report == {"词": [1, 0.5]}


def problem(settings: dict[str, Any]) -> str:
    return " | ".join(Quality(**settings).problems())


def test_missing_and_damaged_files(tmp_path: Path, path: str) -> None:
    data = Path(path).read_bytes()
    damaged = {"empty": b"", "text": "文".encode() * 99, "cut": data[:-1], "pickle": b"\x80\x04." + data[3:]}
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        assert f"model: {tmp_path / name}: no quality model" in problem({"model": str(tmp_path / name)})
        with pytest.raises(UserError, match="make one with train-quality"):
            load_model(tmp_path / name)
    for name in ("absent", "."):
        assert "no quality model" in problem({"model": str(tmp_path / name)})
    with pytest.raises(UserError):
        Quality(str(tmp_path / "absent"))(Document("汉", "1", lang="zh-Hans"))


def test_an_oversized_file_is_not_read(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_MAX_MODEL_BYTES", 1000)
    assert "are too many" in problem({"model": path})


SETTINGS = {"format": "mindllm quality 1", "bias": 0.0, "sizes": [1, 2], "groups": ["zh"], "report": {}}


@pytest.mark.parametrize(
    ("settings", "tensors", "wrong"),
    [
        ({"format": "x"}, {}, "format"),
        ({"sizes": []}, {}, "sizes, range of sizes"),
        ({"sizes": [2, 1]}, {}, "sizes"),
        ({"sizes": [1, 99]}, {}, "range of sizes"),
        ({"sizes": [1.5]}, {}, "sizes"),
        ({"groups": ["de"]}, {}, "groups"),
        ({"bias": float("nan")}, {}, "numbers"),
        ({"bias": None}, {}, "TypeError"),
        ({"sizes": 3}, {}, "TypeError"),
        ({}, {"weights": np.zeros(1000, np.float32)}, "weights"),
        ({}, {"weights": np.zeros(1024)}, "weights"),
        ({}, {"weights": np.zeros(4, np.float32)}, "weights"),
        ({}, {"weights": np.full(1024, np.inf, np.float32)}, "numbers"),
        ({}, {"folds": np.full((2, 1), 0x110000, np.uint32)}, "folds"),
        ({}, {"folds": np.zeros(3, np.uint32)}, "folds"),
    ],
)
def test_what_a_file_holds_is_checked(
    tmp_path: Path, settings: dict[str, Any], tensors: dict[str, np.ndarray], wrong: str
) -> None:
    given = {"weights": np.zeros(1024, np.float32), "folds": FOLDS, **tensors}
    save_file(given, tmp_path / "m", metadata={"settings": json.dumps({**SETTINGS, **settings})})
    with pytest.raises(UserError, match=wrong):
        load_model(tmp_path / "m")


def test_a_file_without_our_settings(tmp_path: Path) -> None:
    for metadata in (None, {"x": "y"}, {"settings": "[]"}, {"settings": "{"}):
        save_file({"weights": np.zeros(1024, np.float32), "folds": FOLDS}, tmp_path / "m", metadata=metadata)
        with pytest.raises(UserError, match="no quality model"):
            load_model(tmp_path / "m")


@pytest.mark.parametrize("lang", TEXTS)
def test_verdict_and_measures(path: str, lang: str) -> None:
    score = round(load_model(path).score(TEXTS[lang]), 4)
    for limit, passes in ((score, True), (score + 0.0001, False)):
        for settings in ({"min_score": limit}, {"min_score": 1 - limit, "languages": {lang: limit}}):
            cleaner, document = Quality(path, **settings), Document(TEXTS[lang], "1", lang=lang)
            assert list(cleaner.measures(document)) == [Measure("quality score", score, f"at least {limit:g}", passes)]
            assert cleaner(document) == (document if passes else Drop("quality:low_score"))
            assert document.meta == {"quality": score}


def test_who_is_left_alone(path: str) -> None:
    french = Document("Un texte que le modèle ne connaît pas.", "1", lang="other")
    assert Quality(path, min_score=1.0)(french) is french and french.meta == {}
    assert "does not know" in str(list(Quality(path).measures(french)))
    poem = Document("漢語", "1", lang="zh-Hant", source="poems")
    cleaner = Quality(path, min_score=1.0, languages={"zh-Hant": 0.0})
    assert cleaner(poem) is poem and 0 < poem.meta["quality"] < 1


def test_a_replaced_model_is_read_again(path: str) -> None:
    document = Document("ab", "1", lang="en")
    Quality(path)(document)
    before = document.meta["quality"]
    save_model(path, model(bias=-3.0, report={"longer": "than before"}))
    Quality(path)(document)
    assert document.meta["quality"] < before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_score": 2.0}, "min_score: 2.0 is not in [0, 1]"),
        ({"languages": {"zh-Hans": -1.0}}, "languages.zh-Hans: -1.0 is not"),
        ({"languages": {"zh": 0.5}}, "languages.zh: unknown language"),
        ({"languages": {"other": 0.5}}, "was trained on zh, en only"),
    ],
)
def test_settings(path: str, settings: dict[str, Any], said: str) -> None:
    assert not problem({"model": path}) and said in problem({"model": path, **settings})
