"""Four-choice exams by subject: MMLU, CMMLU, C-Eval; one CSV file a subject and split, or one JSONL file.

MMLU comes without a header and with letters (Hendrycks' own files) or with a header and the answers 0 to 3; CMMLU and
C-Eval with a header and letters. The test split of C-Eval has no answers, so its validation split is the one that is
scored. A copy of that split in Traditional characters with Taiwan's words (資訊, 軟體) is turned back into what the
original most likely was (信息, 软件) and marked; question by question it may differ from the original. Words that both
sides of the strait have keep their meaning where it is the likelier one: 曲线上 is no 曲在线, 国产影片 no 国产视频.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from eval.importing.archives import Files
from eval.importing.found import Found
from eval.importing.rows import LETTERS, Row, choice_row, csv_rows, json_lines, letter_index, reading
from mindllm.config import UserError
from mindllm.language import convert_chinese

_CONVERTER, _OF_CHARACTERS = "tw2sp", "tw2s"
_NO_TAIWANESE = re.compile("((?<=[曲直分])線上|離線|建立|核心|向量|序列|複製|影片|儲存)")  # 建立 is no 创建 ...
TO_SIMPLIFIED = f"converted from Traditional to Simplified characters with OpenCC ({_CONVERTER})"


def read_mmlu(files: Files) -> Found | None:
    """MMLU (Hendrycks et al. 2021): {dev,test}/<subject>_<split>.csv, with or without a header."""
    splits = {split: _subjects(files.matching(f"{split}/*_{split}.csv"), f"_{split}", _mmlu_row) for split in _SPLITS}
    return Found.of(splits, required="test")


def read_cmmlu(files: Files) -> Found | None:
    """CMMLU (Li et al. 2023): {dev,test}/<subject>.csv with the header ,Question,A,B,C,D,Answer."""
    splits = {split: _subjects(files.matching(f"{split}/*.csv"), "", _cmmlu_row) for split in _SPLITS}
    return Found.of(splits, required="test")


def read_ceval(files: Files) -> Found | None:
    """C-Eval (Huang et al. 2023): {dev,val}/<subject>_<split>.csv, or ceval_val_zhtw.jsonl in Traditional script."""
    splits = {split: _subjects(files.matching(f"{split}/*_{split}.csv"), f"_{split}", _ceval_row) for split in _CEVAL}
    if splits["val"]:
        return Found.of(splits, required="val")
    file = files.one("ceval_val_zhtw.jsonl")
    if file is None:
        return None
    return Found.of({"val": list(_traditional(*file))}, required="val", marks=[TO_SIMPLIFIED])


_SPLITS = ("dev", "test")
_CEVAL = ("dev", "val")


def _subjects(found: list[tuple[str, str]], ending: str, row_of: Callable[[str, list[str], str], Row]) -> list[Row]:
    """The rows of all files of one split, subject by subject, each subject in the order of its file."""
    rows: list[Row] = []
    seen: dict[str, str] = {}
    for where, text in found:
        subject = PurePosixPath(where).name.removesuffix(".csv").removesuffix(ending)
        if subject in seen:
            raise UserError(f"data: {seen[subject]} and {where} are of one subject and split; keep one of them")
        seen[subject] = where
        rows += [row_of(place, fields, subject) for place, fields in _without_header(csv_rows(where, text))]
    return rows


def _without_header(rows: Iterable[tuple[str, list[str]]]) -> Iterable[tuple[str, list[str]]]:
    for number, (place, fields) in enumerate(rows):
        if number or not _is_header(fields):
            yield place, fields


def _is_header(fields: list[str]) -> bool:
    return "question" in [field.strip().lower() for field in fields[:2]] and fields[-1].lower() in (
        "answer",
        "explanation",
    )


def _mmlu_row(place: str, fields: list[str], subject: str) -> Row:
    with reading(place):
        question, *choices, answer = fields
        if len(choices) != 4:
            raise ValueError(f"{len(fields)} fields where question, four choices and answer belong")
        index = int(answer) if re.fullmatch("[0-3]", answer) else letter_index(answer)
        return choice_row(question, choices, index, subject=subject)


def _cmmlu_row(place: str, fields: list[str], subject: str) -> Row:
    with reading(place):
        if len(fields) != 7:
            raise ValueError(f"{len(fields)} fields where number, question, four choices and answer belong")
        _, question, *choices, answer = fields
        row = choice_row(question, choices, letter_index(answer), subject=subject)
        return {**row, "Question": question, **_lettered(choices), "Answer": answer.strip()}


def _ceval_row(place: str, fields: list[str], subject: str) -> Row:
    with reading(place):
        if len(fields) not in (7, 8):  # its dev split explains the answers in an eighth column
            raise ValueError(f"{len(fields)} fields where number, question, four choices and answer belong")
        _, question, *choices = fields[:6]
        return {**choice_row(question, choices, letter_index(fields[6]), subject=subject), **_lettered(choices)}


def _traditional(where: str, text: str) -> Iterable[Row]:
    places = list(json_lines(where, text))
    texts: list[str] = []
    for place, item in places:
        with reading(place):
            texts += [item["question"], *(item[letter] for letter in "ABCD")]
    simplified = iter(_simplified(texts))
    for place, item in places:
        with reading(place):
            question, *choices = (next(simplified) for _ in range(5))
            row = choice_row(question, choices, letter_index(item["answer"]), subject=item["subject"])
            yield {**row, **_lettered(choices)}


def _simplified(texts: list[str]) -> list[str]:
    pieces = [_NO_TAIWANESE.split(text) for text in texts]  # every second one is such a word
    words = iter(convert_chinese([word for parts in pieces for word in parts[1::2]], _OF_CHARACTERS))
    others = iter(convert_chinese([other for parts in pieces for other in parts[::2]], _CONVERTER))
    return ["".join(next(words if n % 2 else others) for n in range(len(parts))) for parts in pieces]


def _lettered(choices: list[str]) -> dict[str, str]:
    return dict(zip(LETTERS[:4], choices, strict=True))
