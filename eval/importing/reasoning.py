"""HellaSwag, WinoGrande, PIQA, LogiQA, PubMedQA and BIG-Bench Hard.

Each is read from its authors' files or from the copy that data folders have: HellaSwag as six lines of text an item
(without the seam of its two context columns), WinoGrande as MosaicML's ready-made sentences. Texts are normalised as
lm-eval's task does it when it loads, so that our tasks need no map over a data set. The answers of PIQA lie in label
files of their own.
"""

from __future__ import annotations

import re

from eval.importing.archives import Files
from eval.importing.found import Found
from eval.importing.rows import Row, choice_row, free_row, json_lines, json_value, letter_index, reading
from mindllm.config import UserError

TEXT_COPY = "read from a text copy; the capital of the context's last clause is restored by a rule"
READY_MADE = "sentences of MosaicML's copy"
CHINESE_LOGIQA = "zh_"

_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[^.!?]*$)|(?<=[.!?][\"')]) (?=[^.!?]*$)")
_OPTION = re.compile(r"\s*[A-Da-d](?:\s*[.．。、,，:：?]|\s)\s*")


def read_hellaswag(files: Files) -> Found | None:
    """HellaSwag (Zellers et al. 2019): hellaswag_{train,val}.jsonl, or hellaswag_val_full.txt."""
    splits: dict[str, list[Row]] = {}
    for split, short in (("train", "train"), ("validation", "val")):
        file = files.one(f"hellaswag_{short}.jsonl")
        splits[split] = []
        for place, item in json_lines(*file) if file else ():
            with reading(place):
                context = f"{item['ctx_a']} {item['ctx_b'].capitalize()}"
                choices = [_clean(ending) for ending in item["endings"]]
                query = _clean(f"{item['activity_label']}: {context}")
                splits[split].append(_hellaswag_row(query, choices, int(item["label"])))
    if splits["validation"]:
        return Found.of(splits, required="validation")
    file = files.one("hellaswag_val_full.txt")
    return Found.of({"validation": _six_lines(*file)}, "validation", [TEXT_COPY]) if file else None


def _six_lines(where: str, text: str) -> list[Row]:
    rows = []
    lines = text.removesuffix("\n").split("\n")
    for start in range(0, len(lines), 6):
        with reading(f"{where}, line {start + 1}"):
            query, label, *endings = lines[start : start + 6]
            if len(endings) != 4:
                raise ValueError("the last item has fewer than six lines")
            rows.append(_hellaswag_row(_capitalised(query), [e.strip() for e in endings], int(label)))
    return rows


def _hellaswag_row(query: str, choices: list[str], label: int) -> Row:
    return choice_row(query, choices, label, query=query, label=label)


def _clean(text: str) -> str:
    """As lm-eval's task: the WikiHow half has marks in brackets."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _capitalised(query: str) -> str:
    """The begun last sentence of a caption with a capital, as lm-eval writes it; WikiHow's contexts are complete."""
    head, _, context = query.strip().partition(": ")
    if context.startswith("How to "):
        return query.strip()
    seams = list(_SENTENCE_END.finditer(context))
    if not seams:
        return query.strip()
    cut = seams[-1].end()
    return f"{head}: {context[:cut]}{context[cut:].capitalize()}"


def read_winogrande(files: Files) -> Found | None:
    """WinoGrande (Sakaguchi et al. 2019): dev.jsonl and train_xl.jsonl, or MosaicML's winogrande.jsonl."""
    splits: dict[str, list[Row]] = {}
    for split, name in (("train", "train_xl"), ("validation", "dev")):
        file = files.one(f"{name}.jsonl")
        splits[split] = []
        for place, item in json_lines(*file) if file else ():
            with reading(place):
                options = [item["option1"], item["option2"]]
                splits[split].append(_winogrande_row(item["sentence"], options, ["1", "2"].index(item["answer"])))
    if splits["validation"]:
        return Found.of(splits, required="validation")
    file = files.one("winogrande.jsonl")
    rows = []
    for place, item in json_lines(*file) if file else ():
        with reading(place):
            rows.append(_ready_made(item["context_options"], item["continuation"], item["gold"]))
    return Found.of({"validation": rows}, required="validation", marks=[READY_MADE])


def _winogrande_row(sentence: str, options: list[str], answer: int) -> Row:
    gap = sentence.index("_")
    contexts = [sentence[:gap] + option for option in options]
    return choice_row(sentence, options, answer, contexts=contexts, rest=sentence[gap + 1 :].strip())


def _ready_made(contexts: list[str], rest: str, answer: int) -> Row:
    """The sentence with its gap again; words that both options begin with stay outside, for readers it is the same."""
    first, second = (context.split(" ") for context in contexts)
    same = 0
    while same < min(len(first), len(second)) - 1 and first[same] == second[same]:
        same += 1
    start = " ".join(first[:same])
    space = "" if rest[:1] in ".,;:!?'" else " "
    options = [" ".join(words[same:]) for words in (first, second)]
    sentence = f"{start} _{space}{rest}".strip()
    return choice_row(sentence, options, answer, contexts=list(contexts), rest=rest.strip())


def read_piqa(files: Files) -> Found | None:
    """PIQA (Bisk et al. 2020): {train,valid}.jsonl beside {train,valid}-labels.lst."""
    splits: dict[str, list[Row]] = {}
    for split, name in (("train", "train"), ("validation", "valid")):
        file, labels = files.one(f"{name}.jsonl"), files.one(f"{name}-labels.lst")
        splits[split] = _piqa_rows(*file, *labels) if file and labels else []
    return Found.of(splits, required="validation")


def _piqa_rows(where: str, text: str, where_labels: str, labels: str) -> list[Row]:
    items, answers = list(json_lines(where, text)), labels.split()
    if len(items) != len(answers):
        raise UserError(f"{where}: {len(items)} items, but {len(answers)} labels in {where_labels}; one is damaged")
    rows = []
    for (place, item), answer in zip(items, answers, strict=True):
        with reading(place):
            columns = {"goal": item["goal"], "sol1": item["sol1"], "sol2": item["sol2"], "label": int(answer)}
            rows.append(choice_row(item["goal"], [item["sol1"], item["sol2"]], int(answer), **columns))
    return rows


def read_logiqa(files: Files) -> Found | None:
    """LogiQA (Liu et al. 2020): {Train,Eval,Test}.txt and zh_{train,eval,test}.txt, eight lines an item.

    The splits of the Chinese originals are called zh_validation and zh_test.
    """
    names = {"train": "Train", "validation": "Eval", "test": "Test"}
    names |= {f"{CHINESE_LOGIQA}{split}": f"zh_{name.lower()}" for split, name in names.items()}
    splits = {}
    for split, name in names.items():
        file = files.one(f"{name}.txt")
        splits[split] = _eight_lines(*file, chinese=split.startswith(CHINESE_LOGIQA)) if file else []
    return Found.of(splits, required="test")


def _eight_lines(where: str, text: str, chinese: bool) -> list[Row]:
    rows = []
    lines = text.removesuffix("\n").split("\n")
    for start in range(0, len(lines), 8):
        with reading(f"{where}, line {start + 1}"):
            empty, label, context, question, *options = lines[start : start + 8]
            if empty.strip() or len(options) != 4:
                raise ValueError("an item is an empty line, answer, context, question and four options")
            if chinese:
                texts = [context.strip(), question.strip(), *(_OPTION.sub("", o, count=1).strip() for o in options)]
            else:  # as the hub's copy that lm-eval's task reads
                texts = [_spaced(t) for t in (context, question, *(option[2:] for option in options))]
            columns = {"context": texts[0], "options": texts[2:], "label": label.strip()}
            rows.append(choice_row(texts[1], texts[2:], letter_index(label), before=texts[0], **columns))
    return rows


def _spaced(text: str) -> str:
    return text.replace(".", ". ").strip()


def read_pubmedqa(files: Files) -> Found | None:
    """PubMedQA (Jin et al. 2019): ori_pqal.json; test_ground_truth.json names the 500 of it that are scored."""
    file, truth = files.one("ori_pqal.json"), files.one("test_ground_truth.json")
    if not file or not truth:
        return None
    answers = json_value(*truth)
    splits: dict[str, list[Row]] = {"train": [], "test": []}
    for number, item in json_value(*file).items():
        with reading(f"{file[0]}, item {number}"):
            splits["test" if number in answers else "train"].append(_pubmedqa_row(item))
    return Found.of(splits, required="test")


def _pubmedqa_row(item: Row) -> Row:
    choices = ["yes", "no", "maybe"]
    columns = {key: item[key] for key in ("QUESTION", "CONTEXTS", "final_decision")}
    context = "\n".join(item["CONTEXTS"])
    return choice_row(item["QUESTION"], choices, choices.index(item["final_decision"]), before=context, **columns)


def read_bbh(files: Files) -> Found | None:
    """BIG-Bench Hard (Suzgun et al. 2022): bbh/<task>.json of {"examples": [{"input", "target"}]}."""
    rows = []
    seen: dict[str, str] = {}
    for where, text in files.matching("bbh/*.json") or files.matching("*.json"):
        subject = where.rpartition("/")[2].removesuffix(".json")
        if subject in seen:
            raise UserError(f"data: {seen[subject]} and {where} are of one task; keep one of them")
        seen[subject] = where
        with reading(where):
            examples = json_value(where, text)["examples"]
        for number, item in enumerate(examples):
            with reading(f"{where}, item {number}"):
                columns = {"input": item["input"], "target": item["target"]}
                rows.append(free_row(item["input"], item["target"], subject=subject, **columns))
    return Found.of({"test": rows}, required="test")
