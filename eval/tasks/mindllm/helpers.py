"""What the tasks of the suite need from Python; the YAML files beside this file name it with !function.

`python -m eval import` puts a copy beside the tasks that it writes, which then work wherever lm-eval is installed.
Rows of a set are read once and kept by subject: 57 tasks of one set cost one reading. memory: the rows of two sets.
"""

import ast
import functools
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAX_EXAMPLES = 64  # rows that few-shot examples can come from
_FINAL_ANSWER = re.compile(r"Final Answer: The final answer is(.*?)\. I hope it is correct\.", re.DOTALL)


def load_rows(data_files, scored="", subject="", **_unused):
    """One subject of a set of rows, as a DatasetDict; files are relative to the folder above this one.

    data_files: {split: "<set>/<split>.jsonl"}. Of splits other than `scored` only the first MAX_EXAMPLES rows are kept.
    """
    from datasets import Dataset, DatasetDict

    splits = {}
    for split, name in data_files.items():
        rows = _by_subject(HERE.parent / name).get(subject, [])
        splits[split] = Dataset.from_list(rows if split == scored else rows[:MAX_EXAMPLES])
    return DatasetDict(splits)


@functools.lru_cache(maxsize=4)
def _by_subject(path):
    found: dict[str, list] = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            found.setdefault(row.get("subject", ""), []).append(row)
    return found


def candidates(rows):
    """Where leave-one-out examples come from: MAX_EXAMPLES rows drawn among those whose text occurs once in the split.

    Drawn by a hash of the row: files are often in order of source, and twins stand side by side. lm-eval takes the item
    itself out of these; a second copy of it would stay. Few, for it compares all with each item.
    """
    keys = list(rows["id"]) if "id" in rows.column_names else [json.dumps(row, sort_keys=True) for row in rows]
    copies = Counter(keys)
    unique = (number for number, key in enumerate(keys) if copies[key] == 1)
    drawn = sorted(unique, key=lambda number: hashlib.sha256(f"example {keys[number]}".encode()).digest())
    return [rows[number] for number in drawn[:MAX_EXAMPLES]]


def math_examples():
    """The four worked examples of MATH (Lewkowycz et al. 2022, appendix D), read out of lm-eval's source.

    Its own task has them in a file that needs further packages before it can be imported.
    """
    import lm_eval

    path = Path(lm_eval.__file__).parent / "tasks" / "minerva_math" / "utils.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "list_fewshot_samples":
            return next(ast.literal_eval(s.value) for s in node.body if isinstance(s, ast.Return) and s.value)
    raise RuntimeError(f"{path}: no list_fewshot_samples in it; use the version of lm-eval in constraints.txt")


def math_results(doc, results):
    """1 where the final answer is the right one after Hendrycks' normalisation of both as text, else 0."""
    from lm_eval.tasks.hendrycks_math.utils import is_equiv

    found = _FINAL_ANSWER.search(results[0] + " I hope it is correct.")
    answer = found.group(1).strip() if found else ""
    if len(answer) > 1 and answer[0] == answer[-1] == "$":
        answer = answer[1:-1]
    return {"exact_match": int(bool(answer) and is_equiv(answer, doc["answer"]))}


def results_en(doc, results):
    """(reference, translation) for the corpus measures, white space at both ends taken off."""
    return _translation(doc["en"], results)


def results_zh_hans(doc, results):
    """As `results_en`, into Simplified Chinese."""
    return _translation(doc["zh_hans"], results)


def results_zh_hant(doc, results):
    """As `results_en`, into Traditional Chinese."""
    return _translation(doc["zh_hant"], results)


def _translation(reference, results):
    pair = (reference.strip(), results[0].strip())
    return {"bleu": pair, "chrf": pair}


def bleu_zh(pairs):
    """Corpus BLEU with sacrebleu's Chinese tokenizer (a Han character is a token); lm-eval's cuts at white space."""
    import sacrebleu

    references, translations = zip(*pairs, strict=True)
    return sacrebleu.corpus_bleu(list(translations), [list(references)], tokenize="zh").score


def load_flores(**_unused):
    """Flores+ from the hub, which asks for a login: dev and devtest of {"id", "zh_hans", "zh_hant", "en"}.

    The successor of Flores-101, with the same sentences and some corrected translations. Aligned by the id of the hub.
    """
    from datasets import Dataset, DatasetDict, load_dataset

    languages = {"zh_hans": "cmn_Hans", "zh_hant": "cmn_Hant", "en": "eng_Latn"}
    splits = {}
    for split in ("dev", "devtest"):
        sides = {}
        for column, name in languages.items():
            rows = load_dataset("openlanguagedata/flores_plus", name, split=split)
            sides[column] = dict(zip(rows["id"], rows["text"], strict=True))
        shared = sorted(set.intersection(*map(set, sides.values())))
        splits[split] = Dataset.from_list([{"id": str(i), **{c: side[i] for c, side in sides.items()}} for i in shared])
    return DatasetDict(splits)
