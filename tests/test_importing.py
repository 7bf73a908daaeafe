"""eval.importing: every layout gives the same rows, counts are checked, what is damaged or unsafe is named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import benchmark_layouts as layouts
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eval.importing.archives import Files
from eval.importing.exams import read_ceval
from eval.importing.mathematics import boxed
from eval.importing.rows import choice_row, csv_rows
from eval.importing.run import ImportConfig, import_sets
from eval.importing.sets import BENCHMARKS
from eval.items import item_id, row_id
from mindllm.config import UserError

BENCH = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "bench"
DATA = Path(os.environ["MINDLLM_DATA"]) / "bench" if "MINDLLM_DATA" in os.environ else BENCH


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    layouts.copies(folder / "data")
    assert import_sets(ImportConfig(str(folder / "data"), str(folder / "out"))) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    layouts.originals(folder / "data")
    assert import_sets(ImportConfig(str(folder / "data"), str(folder / "out"))) == 0
    return folder / "out"


def test_all_sets_are_found(copied: Path) -> None:
    meta = json.loads((copied / "meta.json").read_text())
    assert meta["counts"]["missing"] == [] and meta["counts"]["in"] == len(BENCHMARKS) == 15
    for benchmark in BENCHMARKS:
        found = rows(copied / benchmark.name / f"{benchmark.scored}.jsonl")
        assert found and all(row["id"] == row_id(row) and len(row["id"]) == 16 for row in found)


def test_both_layouts_of_a_set_give_the_same_rows(copied: Path, original: Path) -> None:
    for name in ("mmlu/test", "mmlu/dev", "cmmlu/test", "cmmlu/dev", "math/test"):
        assert rows(copied / f"{name}.jsonl") == rows(original / f"{name}.jsonl"), name


def test_mmlu_rows(copied: Path) -> None:
    first = rows(copied / "mmlu" / "test.jsonl")[0]
    question, choices = layouts.QUESTIONS[5], ["one, or 1", "two", "three", "four"]
    assert first == {
        "id": item_id("\n".join([question, *choices])), "question": question, "choices": choices, "answer": 1,
        "subject": "astronomy",
    }  # fmt: skip


def test_cmmlu_rows(copied: Path) -> None:
    first = rows(copied / "cmmlu" / "test.jsonl")[0]
    assert first["question"] == first["Question"] == layouts.CHINESE[5] and first["subject"] == "anatomy"
    assert first["choices"] == ["甲", "乙", "丙", "丁"] == [first[c] for c in "ABCD"]
    assert first["answer"] == 1 and first["Answer"] == "B"


def test_ceval_in_traditional_characters_is_converted_and_marked(copied: Path, original: Path) -> None:
    first = rows(copied / "ceval" / "val.jsonl")[0]
    assert first["question"] == f"0{layouts.SIMPLIFIED}" and first["D"] == first["choices"][3] == "这是软件"
    assert "OpenCC (tw2sp)" in json.loads((copied / "ceval" / "meta.json").read_text())["marks"][0]
    plain = json.loads((original / "ceval" / "meta.json").read_text())
    assert plain["marks"] == [] and plain["items"] == {"dev": {"law": 5}, "val": {"law": 3}}


def test_agieval_prompts_are_the_authors(copied: Path) -> None:
    found = {row["subject"]: row for row in reversed(rows(copied / "agieval" / "test.jsonl"))}
    options = "(A)one (B)two (C)three (D)four"
    question = layouts.QUESTIONS[0]
    assert found["sat-math"]["query"] == f"Q: {question} Answer Choices: {options}\nA: Among A through D, the answer is"
    assert found["sat-en"]["query"].startswith("A passage 0.Q: ") and found["sat-en"]["gold"] == [0]
    assert found["logiqa-zh"]["query"] == f"问题：{question} 选项：{options}\n答案：从A到D, 我们应选择"
    assert found["math"]["query"] == f"Q: {question}\nA: The answer is" and found["math"]["answer"] == "(3,4]"


@pytest.mark.parametrize(
    ("traditional", "simplified"),
    [
        ("線上教育；曲線上、垂直平分線上的點", "在线教育；曲线上、垂直平分线上的点"),
        ("國產影片的核心，平面的法向量", "国产影片的核心，平面的法向量"),  # not 视频, 内核, 矢量
        ("建立資料的序列，複製後儲存", "建立数据的序列，复制后储存"),
        ("用印表機列印專案", "用打印机打印项目"),
        ("", ""),
    ],
)
def test_words_of_both_sides_of_the_strait_stay(tmp_path: Path, traditional: str, simplified: str) -> None:
    line = {"subject": "law", "A": traditional or "甲", "B": "軟體", "C": "丙", "D": "丁", "answer": "B", "id": 0}
    layouts.write(tmp_path / "ceval" / "ceval_val_zhtw.jsonl", json.dumps({**line, "question": f"{traditional}？"}))
    (row,) = read_ceval(Files(tmp_path)).splits["val"]  # type: ignore[union-attr]
    assert row["question"] == f"{simplified}？" and row["choices"][:2] == [simplified or "甲", "软件"]


def test_mathematics_rows(copied: Path, original: Path) -> None:
    row = rows(copied / "arithmetic" / "test.jsonl")[0]
    assert row["prompt"] == "Question: What is 0 plus 45?\nAnswer:" and row["completion"] == " 45"
    assert (row["question"], row["answer"], row["subject"]) == ("What is 0 plus 45?", "45", "2da")
    assert rows(copied / "gsm8k" / "test.jsonl")[1]["answer"] == "It is 1.\n#### 1"
    assert rows(copied / "math" / "test.jsonl")[1]["answer"] == r"\frac{1}{2}"
    ready = rows(copied / "mathqa" / "test.jsonl")[1]
    assert ready["choices"] == ["1", "data inadequate", "", "4"] and ready["Problem"] == "what is 1 + 1 ?"
    assert rows(original / "mathqa" / "test.jsonl")[1]["choices"] == ["1", "2", "3", "4", "none of these"]


def test_reasoning_rows(copied: Path, original: Path) -> None:
    for folder in (copied, original):
        row = rows(folder / "hellaswag" / "validation.jsonl")[0]
        assert row["query"] == "Roof repair: Man 0 sits on a roof. He", "lm-eval writes a capital here"
        row = rows(folder / "winogrande" / "validation.jsonl")[1]
        assert row["question"] == "Box 1 did not fit the bag because the _ was too big."
        assert row["choices"] == ["box", "bag"] and row["answer"] == 1 and row["rest"] == "was too big."
        assert row["contexts"] == [f"Box 1 did not fit the bag because the {o}" for o in ("box", "bag")]
    logiqa = rows(copied / "logiqa" / "test.jsonl")[1]
    assert logiqa["context"] == "Ann is taller than Bob. Bob is 1." and logiqa["choices"][2] == "Both. No"
    chinese = rows(copied / "logiqa" / "zh_test.jsonl")[0]
    assert chinese["choices"] == ["甲", "乙", "都不是", "不知道"] and chinese["context"] == "0.甲比乙高。"
    assert len(rows(copied / "pubmedqa" / "train.jsonl")) == len(rows(copied / "pubmedqa" / "test.jsonl")) == 7
    assert rows(copied / "piqa" / "validation.jsonl")[1]["label"] == 1
    assert rows(copied / "bbh" / "test.jsonl")[0]["subject"] == "navigate"


def test_flores_traditional_side(copied: Path, original: Path) -> None:
    row = rows(copied / "flores" / "devtest.jsonl")[0]
    assert row["zh_hans"] == "0：他的头发，发现了软件。" and row["zh_hant"] == "0：他的頭髮，發現了軟件。"
    assert "OpenCC (s2t)" in json.loads((copied / "flores" / "meta.json").read_text())["marks"][0]
    row = rows(original / "flores" / "devtest.jsonl")[0]
    assert row["zh_hant"] == "他長得很高。" and len(rows(original / "flores" / "dev.jsonl")) == 9


def test_missing_sets_are_named_and_not_in_the_suite(original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = json.loads((original / "meta.json").read_text())["counts"]["missing"]
    assert [m["task"] for m in missing] == [
        f"mindllm_{n}" for n in ("agieval", "arithmetic", "gsm8k", "logiqa", "pubmedqa", "piqa", "bbh")
    ]
    suite = yaml.safe_load((original / "tasks" / "_mindllm.yaml").read_text())
    assert suite["metadata"]["missing"] == missing and "mindllm_piqa" not in suite["task"]
    assert "PIQA not in data (looked for piqa)" in [m["why"] for m in missing]


def test_a_wrong_count_is_said_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.write(tmp_path / "data" / "piqa" / "valid.jsonl", layouts.jsonl(layouts.piqa_rows(2)))
    layouts.write(tmp_path / "data" / "piqa" / "valid-labels.lst", "0\n1\n")
    assert import_sets(ImportConfig(str(tmp_path / "data"), str(tmp_path / "out"))) == 0
    said = capsys.readouterr().out
    assert "piqa validation: items: 2 here, 1,838 expected (Bisk et al. 2020)" in said
    assert "mmlu: not in data (looked for mmlu, MMLU); its tasks are left out" in said
    differing = json.loads((tmp_path / "out" / "piqa" / "meta.json").read_text())["differing"]
    assert differing == [{"what": "piqa validation: items", "expected": 1838, "found": 2, "source": "Bisk et al. 2020"}]


def test_the_folder_that_was_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there are two, it is the first one that the manual names."""
    row = {"question": "1 + 1?", "answer": "#### 2"}
    for name, num in (("gsm8k", 3), ("grade-school-math", 2)):
        layouts.write(tmp_path / "data" / name / "test.jsonl", layouts.jsonl([row] * num))
    import_sets(ImportConfig(str(tmp_path / "data"), str(tmp_path / "a")))
    (tmp_path / "data" / "gsm8k" / "test.jsonl").unlink()
    import_sets(ImportConfig(str(tmp_path / "data"), str(tmp_path / "b")))
    metas = [json.loads((tmp_path / out / "gsm8k" / "meta.json").read_text()) for out in "ab"]
    assert [(meta["from"], meta["items"]["test"]) for meta in metas] == [
        ("gsm8k", {"": 3}),
        ("grade-school-math", {"": 2}),
    ]
    said = capsys.readouterr().out
    assert "\ngsm8k: 3 test\n" in said and "\ngsm8k from grade-school-math: 2 test\n" in said


def test_nothing_to_import(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no folder of a benchmark; their names are mmlu, agieval"):
        import_sets(ImportConfig(str(tmp_path), str(tmp_path / "out")))
    (tmp_path / "mmlu").mkdir()
    with pytest.raises(UserError, match="known layout"):
        import_sets(ImportConfig(str(tmp_path), str(tmp_path / "out")))
    assert list(ImportConfig().problems()) and list(ImportConfig(data="/nonexistent").problems())


def test_done_before_and_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ImportConfig(str(layouts.originals(tmp_path / "data")), str(tmp_path / "out"))
    import_sets(config)
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name != "meta.json"}
    import_sets(config)
    assert "done before" in capsys.readouterr().out
    added = tmp_path / "data" / "cmmlu" / "test" / "college_law.csv"
    layouts.write(added, layouts.cmmlu_csv(2))
    with pytest.raises(UserError, match="force=true"):
        import_sets(config)
    config.force = True
    import_sets(config)
    task = yaml.safe_load(
        (tmp_path / "out" / "tasks" / "mindllm_cmmlu_college_law.yaml").read_text().replace("!function ", "")
    )
    assert len(rows(tmp_path / "out" / "cmmlu" / "test.jsonl")) == 4
    assert task["fewshot_split"] == "test", "no dev rows of this subject"
    added = added.rename(added.with_name("falconry.csv"))
    with pytest.raises(UserError, match="CMMLU: no subject 'falconry' is known"):
        import_sets(config)
    added.unlink()
    import_sets(config)
    assert all(path.read_bytes() == data for path, data in before.items()), "the same files give the same bytes"


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("mmlu/test/law_test.csv", "q,a,b,c,d,E\n", "law_test.csv, line 1: damaged: the answer 4 is none of 4 choices"),
        ("mmlu/test/law_test.csv", "q,a,b,c\n", "line 1: damaged: 4 fields where"),
        ("mmlu/test/law_test.csv", 'q,"a,b\n', "law_test.csv, line 1: damaged: unexpected end of data"),
        ("cmmlu/test/law.csv", ",Question,A,B,C,D,Answer\n0,问题,甲,乙,丙,丁,X\n", "line 2: damaged: the answer 'X'"),
        ("gsm8k/test.jsonl", '{"question": "q", "answer": "a"}\n{"question"\n', "test.jsonl, line 2: damaged: "),
        ("gsm8k/test.jsonl", '{"question": "q"}\n', "line 1: damaged: no 'answer' in it"),
        ("gsm8k/test.jsonl", "[1]\n", "line 1: damaged: no JSON object"),
        ("math/test.jsonl", '{"problem": "p", "type": "Algebra", "level": "1", "solution": "5"}\n', "no .boxed answer"),
        ("hellaswag/hellaswag_val_full.txt", "a: b\n1\nx\ny\nz\n", "fewer than six lines"),
        ("piqa/valid-labels.lst", "1\n", "7 items, but 1 labels in .*valid-labels.lst"),
        ("pubmedqa/ori_pqal.json", "{", "ori_pqal.json: damaged: "),
        ("logiqa/Test.txt", "\na\nc\nq\nA.1\nB.2\nC.3\n", "Test.txt, line 1: damaged: an item is an empty line"),
        ("flores/devtest.en", "one\n", "10 lines, but 1 in .*devtest.en"),
        ("mmlu/test/law_test.csv", "\ud800", "no UTF-8 at byte 0"),
    ],
)  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, path: str, text: str, message: str) -> None:
    layouts.write(tmp_path / "data" / "piqa" / "valid.jsonl", layouts.jsonl(layouts.piqa_rows(7)))
    layouts.write(tmp_path / "data" / "piqa" / "valid-labels.lst", "0\n" * 7)
    layouts.write(tmp_path / "data" / "pubmedqa" / "test_ground_truth.json", "{}")
    layouts.write(tmp_path / "data" / "flores" / "devtest.zh", "一\n" * 10)
    (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "data" / path).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=message):
        import_sets(ImportConfig(str(tmp_path / "data"), str(tmp_path / "out")))
    assert not (tmp_path / "out" / "meta.json").exists()


@pytest.mark.parametrize("layout", [layouts.copies, layouts.originals])
def test_an_archive_beside_what_was_unpacked_of_it(tmp_path: Path, layout: Any) -> None:
    layout(tmp_path / "data")
    layouts.write(tmp_path / "data" / "mmlu" / "x" / "test" / "astronomy_test.csv", layouts.mmlu_csv(True, 1))
    with pytest.raises(UserError, match="astronomy_test.csv are of one subject and split; keep one"):
        import_sets(ImportConfig(str(tmp_path / "data"), str(tmp_path / "out")))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1), min_size=2, max_size=6))
def test_csv_fields_survive(fields: list[str]) -> None:
    line = ",".join('"' + field.replace('"', '""') + '"' for field in fields)
    assert [row for _, row in csv_rows("x", line + "\n")] == [fields]


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_ids_do_not_depend_on_white_space(question: str, choice: str) -> None:
    one = choice_row(question, ["a", choice], 0)
    other = choice_row(f" {question}\n", ["a ", f"\t{choice}"], 1)
    assert one["id"] == other["id"]


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"So $\boxed{5}$.", "5"),
        (r"$\boxed{1}$, no: $\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"$\fbox{\text{(A)}}$", r"\text{(A)}"),
        (r"It is $\boxed 3$ or so", "3"),
    ],
)
def test_boxed(solution: str, answer: str) -> None:
    assert boxed(solution) == answer


@pytest.mark.parametrize("solution", ["5", r"\boxed{5"])
def test_boxed_without_an_answer(solution: str) -> None:
    with pytest.raises(ValueError, match="boxed"):
        boxed(solution)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the benchmark files")
def test_real_files_have_the_published_counts(tmp_path: Path) -> None:
    assert import_sets(ImportConfig(str(DATA), str(tmp_path))) == 0
    meta = json.loads((tmp_path / "meta.json").read_text())["counts"]
    assert meta["missing"] == [] and meta["tasks"] == 242
    assert [d["what"] for d in meta["differing"]] == ["mathqa test: items"], "MosaicML's copy has 2,983 of 2,985"
    math = {row["question"]: row for row in rows(tmp_path / "math" / "test.jsonl")}
    from lm_eval.tasks.hendrycks_math.utils import last_boxed_only_string, remove_boxed

    for row in math.values():
        assert row["answer"] == remove_boxed(last_boxed_only_string(row["solution"])).strip(), row["solution"]
    logiqa = {tuple(r["choices"]) for r in rows(tmp_path / "logiqa" / "zh_test.jsonl")}
    assert len(logiqa) > 640
