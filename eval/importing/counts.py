"""How many items each split should have, and where that is known from.

A set that lost a file, or comes in another version, gives a score that cannot be compared, and nothing else would tell.
Numbers by subject are checked where they are published; a difference is reported and recorded, not refused: a subset
may be meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eval.importing.found import Found

_BBH = (
    "boolean_expressions causal_judgement date_understanding disambiguation_qa dyck_languages formal_fallacies"
    " geometric_shapes hyperbaton logical_deduction_five_objects logical_deduction_seven_objects"
    " logical_deduction_three_objects movie_recommendation multistep_arithmetic_two navigate object_counting"
    " penguins_in_a_table reasoning_about_colored_objects ruin_names salient_translation_error_detection snarks"
    " sports_understanding temporal_sequences tracking_shuffled_objects_five_objects"
    " tracking_shuffled_objects_seven_objects tracking_shuffled_objects_three_objects web_of_lies word_sorting"
).split()
_ARITHMETIC = "1dc 2da 2dm 2ds 3da 3ds 4da 4ds 5da 5ds".split()

# set -> split -> (items, subjects); subjects are counted where there are any
TOTALS: dict[str, dict[str, tuple[int, int]]] = {
    "mmlu": {"test": (14042, 57), "dev": (285, 57)},
    "agieval": {"test": (4503, 11)},
    "ceval": {"val": (1346, 52), "dev": (260, 52)},
    "cmmlu": {"test": (11582, 67), "dev": (335, 67)},
    "arithmetic": {"test": (20000, 10)},
    "gsm8k": {"test": (1319, 1), "train": (7473, 1)},
    "math": {"test": (5000, 7)},
    "hellaswag": {"validation": (10042, 1), "train": (39905, 1)},
    "winogrande": {"validation": (1267, 1), "train": (40398, 1)},
    "logiqa": {
        "test": (651, 1),
        "validation": (651, 1),
        "train": (7376, 1),
        "zh_test": (651, 1),
        "zh_validation": (651, 1),
        "zh_train": (7376, 1),
    },
    "pubmedqa": {"test": (500, 1), "train": (500, 1)},
    "piqa": {"validation": (1838, 1), "train": (16113, 1)},
    "mathqa": {"test": (2985, 1), "train": (29837, 1)},
    "bbh": {"test": (6511, 27)},
    "flores": {"devtest": (1012, 1), "dev": (997, 1)},
}
SUBJECTS: dict[str, dict[str, dict[str, int]]] = {
    "agieval": {
        "test": {
            "aqua-rat": 254, "gaokao-english": 306, "logiqa-en": 651, "logiqa-zh": 651, "lsat-ar": 230, "lsat-lr": 510,
            "lsat-rc": 269, "math": 1000, "sat-en": 206, "sat-en-without-passage": 206, "sat-math": 220,
        }
    },
    "arithmetic": {"test": dict.fromkeys(_ARITHMETIC, 2000)},
    "math": {
        "test": {
            "algebra": 1187, "counting_and_prob": 474, "geometry": 479, "intermediate_algebra": 903, "num_theory": 540,
            "prealgebra": 871, "precalc": 546,
        }
    },
    "bbh": {"test": {**dict.fromkeys(_BBH, 250), "causal_judgement": 187, "penguins_in_a_table": 146, "snarks": 178}},
}  # fmt: skip
SOURCES = {
    "mmlu": "Hendrycks et al. 2021",
    "agieval": "Zhong et al. 2023, version 1",
    "ceval": "Huang et al. 2023",
    "cmmlu": "the authors' release",
    "arithmetic": "Brown et al. 2020",
    "gsm8k": "Cobbe et al. 2021",
    "math": "Hendrycks et al. 2021",
    "hellaswag": "Zellers et al. 2019",
    "winogrande": "Sakaguchi et al. 2019",
    "logiqa": "Liu et al. 2020",
    "pubmedqa": "Jin et al. 2019",
    "piqa": "Bisk et al. 2020",
    "mathqa": "Amini et al. 2019",
    "bbh": "Suzgun et al. 2022",
    "flores": "Goyal et al. 2021",
}


def count(found: Found) -> dict[str, dict[str, int]]:
    """Items by split and subject ("" where there are no subjects), in order of name."""
    return {s: dict(sorted(Counter(r.get("subject", "") for r in rows).items())) for s, rows in found.splits.items()}


def differences(name: str, found: Found) -> list[dict[str, Any]]:
    """{"what", "expected", "found", "source"} for every number that is not the published one.

    Of a split that is not there nothing is said: of most sets only the scored split is passed around.
    """
    counted = count(found)
    return [
        {"what": what, "expected": expected, "found": here, "source": SOURCES[name]}
        for split in counted
        if split in TOTALS[name]
        for what, expected, here in _compared(name, split, counted[split])
        if expected != here
    ]


def notes(name: str, found: Found, scored: str, outside: Sequence[str] = ()) -> list[str]:
    """For readers of a benchmark's score: "1,200 items instead of 14,042"; none where all of it is there.

    outside: subjects that do not count into the score.
    """
    rows = [row for row in found.splits[scored] if row.get("subject", "") not in outside]
    items, subjects = TOTALS[name][scored]
    known = SUBJECTS.get(name, {}).get(scored, {})
    expected = {"items": items - sum(known[s] for s in outside), "subjects": subjects - len(outside)}
    here = {"items": len(rows), "subjects": len({row.get("subject", "") for row in rows})}
    return [f"{here[what]:,} {what} instead of {n:,}" for what, n in expected.items() if here[what] != n]


def _compared(name: str, split: str, here: dict[str, int]) -> list[tuple[str, int, int]]:
    items, subjects = TOTALS[name][split]
    rows = [(f"{name} {split}: items", items, sum(here.values())), (f"{name} {split}: subjects", subjects, len(here))]
    by_subject = SUBJECTS.get(name, {}).get(split, {})
    return rows + [(f"{name} {split} {s}: items", n, here.get(s, 0)) for s, n in by_subject.items()]
