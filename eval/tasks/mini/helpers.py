"""Data loader of the mini tasks; the YAML files beside this file name it with !function."""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent


def load_jsonl(data_files, **_unused):
    """Read JSONL files that lie beside this file, from whatever current directory.

    lm-eval calls this as `custom_dataset`, with the task's metadata and
    dataset_kwargs as keyword arguments. `data_files` maps a split to a file name.
    Nothing is downloaded and nothing is written to a cache.
    """
    from datasets import Dataset, DatasetDict

    splits = {}
    for split, name in data_files.items():
        with open(HERE / name, encoding="utf-8") as lines:
            splits[split] = Dataset.from_list([json.loads(line) for line in lines if line.strip()])
    return DatasetDict(splits)
