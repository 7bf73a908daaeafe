"""Training the quality classifier: both languages and scripts, what is left out, the same bytes each time, mistakes."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from data_pipeline import train_quality as module
from data_pipeline.cleaners.quality import Model, Quality, fold, load_model
from data_pipeline.document import Document, Drop
from data_pipeline.train_quality import Example, TrainQualityConfig, folds, measure, train_quality
from mindllm.config import UserError, load

GOOD = {
    "zh-Hans": "这条河从山里流出来，经过村子以后慢慢变宽；老人们说，许多年以前这里的水可以直接喝。".split("，"),
    "zh-Hant": "這條河從山裡流出來，經過村子以後慢慢變寬；老人們說，許多年以前這裡的水可以直接喝。".split("，"),
    "en": "the river comes out of the hills, and it is wide where it leaves the village; people drank from it".split(),
}
BAD = {
    "zh-Hans": "首页 登录 注册 购物车 优惠券 立即购买 联系我们 会员中心 点击领取 返回顶部 客服热线 关注公众号".split(),
    "zh-Hant": "首頁 登入 註冊 購物車 優惠券 立即購買 聯絡我們 會員中心 點擊領取 返回頂部 客服專線 關注公眾號".split(),
    "en": "home login and register to the cart for you with this offer click here is it buy now the best sale".split(),
}


def texts(parts: dict[str, list[str]], lang: str, number: int, mark: str) -> list[str]:
    rng = random.Random(f"{lang} {mark}")
    glue = " " if lang == "en" or mark == " " else mark
    return [glue.join(rng.choices(parts[lang], k=30)) + glue for _ in range(number)]


def write(path: Path, found: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in found), encoding="utf-8")


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    for lang in GOOD:
        write(tmp_path / "good" / f"{lang}.jsonl", texts(GOOD, lang, 40, "，"))
        write(tmp_path / "bad" / f"{lang}.jsonl", texts(BAD, lang, 40, " "))
    return tmp_path


def config(folder: Path, **changes: Any) -> TrainQualityConfig:
    paths = {name: str(folder / name) for name in ("good", "bad")}
    return TrainQualityConfig(**{**paths, "model": str(folder / "m.safetensors"), "bits": 12, **changes})


def test_learns_both_languages_and_both_scripts(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_quality(config(examples)) == 0
    cleaner = Quality(str(examples / "m.safetensors"))
    assert not list(cleaner.problems())
    for lang in GOOD:
        for text in texts(GOOD, lang, 5, "。"):
            assert isinstance(cleaner(Document(text, "1", lang=lang)), Document), text
        for text in texts(BAD, lang, 5, "\n" if lang != "en" else " "):
            assert cleaner(Document(text, "1", lang=lang)) == Drop("quality:low_score"), text
    model = load_model(examples / "m.safetensors")
    assert model.groups == ("zh", "en") and model.report["settings"]["bits"] == 12
    held_out = model.report["held_out"]
    assert held_out["all"]["accuracy"] == held_out["all"]["auc"] == 1
    assert set(held_out) == {"all", *GOOD} and 5 < held_out["all"]["good"] < 45
    said = capsys.readouterr().out
    assert "accuracy" in said and "1.0000" in said and "zh-Hant" in said and "m.safetensors" in said


def test_the_same_folders_give_the_same_bytes(examples: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_quality(config(examples, model=str(examples / name), seed=seed))
    assert (examples / "a").read_bytes() == (examples / "b").read_bytes()
    assert load_model(examples / "a").weights.tobytes() != load_model(examples / "c").weights.tobytes()


def test_a_model_is_not_replaced_by_accident(examples: Path) -> None:
    train_quality(config(examples))
    before = (examples / "m.safetensors").read_bytes()
    with pytest.raises(UserError, match="force=true"):
        train_quality(config(examples, seed=2))
    assert (examples / "m.safetensors").read_bytes() == before
    train_quality(config(examples, seed=2, force=True))
    assert (examples / "m.safetensors").read_bytes() != before


def test_one_script_serves_the_other(examples: Path) -> None:
    for kind in ("good", "bad"):
        (examples / kind / "zh-Hant.jsonl").unlink()
    train_quality(config(examples))
    model = load_model(examples / "m.safetensors")
    assert min(map(model.score, texts(GOOD, "zh-Hant", 5, "，"))) > 0.5
    assert max(map(model.score, texts(BAD, "zh-Hant", 5, " "))) < 0.5


@pytest.mark.parametrize("left_out", ["en", "zh"])
def test_a_language_with_one_kind_is_left_out_and_said(
    examples: Path, capsys: pytest.CaptureFixture[str], left_out: str
) -> None:
    for path in (examples / "bad").glob(f"{left_out}*"):
        path.unlink()
    train_quality(config(examples))
    groups = load_model(examples / "m.safetensors").groups
    assert groups == (("zh",) if left_out == "en" else ("en",))
    assert f"{left_out}: only " in capsys.readouterr().out


def test_all_kinds_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the texts each as html, txt, gzipped jsonl and parquet; an empty page is counted and said."""
    for kind, parts in (("good", GOOD), ("bad", BAD)):
        folder = tmp_path / kind
        folder.mkdir()
        found = [t for lang in GOOD for t in texts(parts, lang, 40, "，" if kind == "good" else " ")]
        for number, text in enumerate(found[0::4]):
            (folder / f"{number}.html").write_text(f"<html><body><p>{text}</p></body></html>", encoding="utf-8")
        for number, text in enumerate(found[1::4]):
            (folder / f"{number}.txt").write_text(text, encoding="gb18030")
        lines = "".join(json.dumps({"text": t}) + "\n" for t in found[2::4])
        (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        pq.write_table(pa.table({"text": found[3::4]}), folder / "a.parquet")
    (tmp_path / "bad" / "empty.html").write_bytes(b" ")
    train_quality(config(tmp_path))
    held_out = load_model(tmp_path / "m.safetensors").report["held_out"]
    assert held_out["all"]["auc"] == 1 and set(held_out) == {"all", *GOOD}
    assert "bad: 1 not used: html:empty 1" in capsys.readouterr().out


def test_same_texts(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Copies count once; what is in both folders says nothing."""
    both = texts(GOOD, "en", 3, " ")
    write(examples / "bad" / "more.jsonl", both)
    write(examples / "good" / "more.jsonl", both + both)
    train_quality(config(examples))
    assert "3 texts are in both folders: left out" in capsys.readouterr().out


def test_limits_on_documents(examples: Path) -> None:
    found = module._examples(config(examples, max_documents=20, max_chars=50), str(examples / "good"), True)
    everything = module._examples(config(examples, max_chars=50), str(examples / "good"), True)
    assert found == everything[:20] and max(len(e.text) for e in found) == 50
    assert [e.hash for e in found] == sorted(e.hash for e in found)
    many = [Example("", "en", True, module._hash(str(number), 1)) for number in range(2000)]
    first = sorted(many, key=lambda e: e.hash)[:500]
    assert 70 < sum(e.is_held_out(0.2) for e in first) < 130, "the first by hash are held out as often as others"


@pytest.mark.parametrize(
    ("good", "said"),
    [([], "holds no files"), ([""], "holds no text"), (["ein kurzer Text"], "20 examples of both kinds")],
)
def test_too_few_examples(tmp_path: Path, good: list[str], said: str) -> None:
    write(tmp_path / "bad" / "x.jsonl", texts(BAD, "en", 40, " "))
    (tmp_path / "good").mkdir()
    if good:
        write(tmp_path / "good" / "x.jsonl", good)
    with pytest.raises(UserError, match=said):
        train_quality(config(tmp_path))
    assert not (tmp_path / "m.safetensors").exists()


def test_measures_by_hand(examples: Path) -> None:
    """A model of one weight a score: accuracy, area under the curve and thresholds are what they are defined to be."""
    train_quality(config(examples))
    model = load_model(examples / "m.safetensors")
    kinds = ((GOOD, True), (BAD, False), (BAD, True))
    found = [Example(t, "en", good, 0) for parts, good in kinds for t in texts(parts, "en", 10, " ")[: 10 - 5 * good]]
    report = measure(found, model)["held_out"]["en"]
    scores = [model.score(e.text) for e in found]
    assert (report["good"], report["bad"]) == (10, 10) and report["accuracy"] == 0.75
    assert report["auc"] == roc_auc_score([e.good for e in found], scores)
    for row, share in zip(report["thresholds"], module.SHARES_KEPT, strict=True):
        kept = [e.good for e, score in zip(found, scores, strict=True) if round(score, 4) >= row["min_score"]]
        assert row["good_kept"] == sum(kept) / 10 >= share and row["bad_kept"] == (len(kept) - sum(kept)) / 10
    assert measure([e for e in found if e.good], model)["held_out"]["en"] == {"good": 10, "bad": 0}


def test_folds() -> None:
    table = Model(np.zeros(256, np.float32), 0.0, (1,), folds(), ("zh",)).table
    read = "".join(map(chr, fold("Ｅｎｇlish ABC 漢語學習　汉语学习 １2٣ É\n　,，", table)))
    assert read == "english abc 汉语学习 汉语学习 000 é\n ,,"
    assert len(folds().T) == len({int(p) for p in folds()[0]})


def test_config(tmp_path: Path) -> None:
    path = Path(__file__).resolve().parent.parent / "configs" / "quality" / "default.yaml"
    shipped = load(TrainQualityConfig, path, ["good=a", "bad=b", "run=r"])
    assert shipped == TrainQualityConfig("a", "b", "r", "r/quality.safetensors"), "the file shows the defaults"
    wrong = ["sizes=[2,1]", "bits=99", "strength=0", "valid_fraction=1", "max_chars=0", "seed=-1"]
    with pytest.raises(UserError, match="6 problem"):
        load(TrainQualityConfig, path, wrong)
    with pytest.raises(UserError, match="sizes"):
        load(TrainQualityConfig, path, ["sizes=[]"])
