"""Learning a tokenizer: the same bytes twice, time and memory beside the estimate, bytes per token by file.

    python bench/tokenizer.py FOLDER [--vocab-size 125700] [--gpt2 FOLDER] [--peer tokenizer.json ...] [--out FOLDER]
    python bench/tokenizer.py FOLDER --costs [--kind KIND]   (what mindllm/tokenizer/estimate.py was fitted to)

FOLDER holds *.jsonl files of {"text"}; each is a source, languages are found by mindllm.language. The tokenizer is
learned two times from all of them, in separate processes with other hash seeds and numbers of threads. Bytes per token
are of the first --bytes bytes of each file: all tokenizers see the same, and ours has learned from it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from rich.console import Console
from rich.table import Table

GROUPS = ("zh", "en", "other")
COST_BYTES = (10_000_000, 30_000_000, 60_000_000, 110_000_000)
COST_ENTRIES = {"sentencepiece": (32_000, 125_700), "byte-level": (16_000, 32_000)}  # that a few MB support
KINDS = tuple(COST_ENTRIES)
Count = Callable[[Sequence[str]], int]  # number of tokens of texts


def texts(path: Path) -> Iterator[str]:
    """The texts of one file of JSON lines."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def write_stage(files: Sequence[Path], folder: Path) -> None:
    """A complete stage folder with the documents of the files, a shard and a source each."""
    from data_pipeline.document import Document
    from data_pipeline.parquet import SCHEMA, write_rows
    from mindllm.language import language
    from mindllm.stage import hash_file, hash_json, write_json

    for path in files:
        with write_rows(folder / f"{path.stem}.parquet", SCHEMA) as rows:
            for number, text in enumerate(texts(path)):
                name = f"{path.stem}:{number}"
                rows.add_document(Document(text, name, lang=language(text), source=path.stem))
    write_json(folder / "meta.json", {"hash": hash_json([hash_file(path) for path in files])})


def learn(documents: Path, out: Path, kind: str, vocab_size: int, sample: dict[str, int], number: int = 0) -> Any:
    """Learn a tokenizer in a process of its own; the counts of its meta.json. Raises SystemExit with its messages."""
    from mindllm.stage import read_json, write_text

    keys = {
        "documents": str(documents),
        "out": str(out),
        "kind": kind,
        "vocab_size": vocab_size,
        "sample_bytes": sample,
    }
    write_text(config := out.with_suffix(".yaml"), json.dumps(keys))
    command = [sys.executable, "-m", "mindllm.tokenizer", "train", str(config)]
    surroundings = os.environ | {"PYTHONHASHSEED": str(number), "RAYON_NUM_THREADS": str(number + 1)}
    done = subprocess.run(command, cwd=common.ROOT, env=surroundings, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return read_json(out / "meta.json")["counts"]


def twice(documents: Path, out: Path, work: Path, kind: str, vocab_size: int, sample: dict[str, int]) -> bool:
    """Learn into `out` and again elsewhere; print what it took. Whether all files are the same, byte for byte."""
    folders = (out, work / "again")
    table = Table("run", "MB", "entries", "s", "s of a core", "estimated", "GB", "estimated", title="learned twice")
    for number, folder in enumerate(folders):
        counts = learn(documents, folder, kind, vocab_size, sample, number)
        took, needs = counts["measured"], counts["estimate"]
        seconds = (f"{s:.0f}" for s in (took["wall_seconds"], took["seconds"], needs["seconds"]))
        memory = (f"{size / 1e9:.2f}" for size in (took["memory"], needs["memory"]))
        table.add_row(str(number + 1), f"{counts['in'] / 1e6:.1f}", f"{counts['out']:,}", *seconds, *memory)
    Console().print(table)
    names = sorted(path.name for path in out.iterdir() if path.name not in ("meta.json", "plan.json"))
    same = [name for name in names if (out / name).read_bytes() == (folders[1] / name).read_bytes()]
    print(f"the same bytes: {', '.join(same) or 'no file'}", flush=True)
    if same != names:
        print(f"DIFFERENT: {', '.join(name for name in names if name not in same)}", flush=True)
    return same == names


def counters(ours: Path, gpt2: Path | None, peers: Sequence[Path]) -> dict[str, Count]:
    """How each tokenizer counts tokens, by name."""
    import tokenizers

    from mindllm.tokenizer import load_tokenizer

    model = load_tokenizer(ours)
    found: dict[str, Count] = {"ours": lambda texts: sum(map(len, model.encode_batch(texts)))}
    others = {path.parent.name or path.name: tokenizers.Tokenizer.from_file(str(path)) for path in peers}
    if gpt2:
        parts = (str(gpt2 / "vocab.json"), str(gpt2 / "merges.txt"))
        others["GPT-2"] = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*parts))
        others["GPT-2"].pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return found | {name: _counter(other) for name, other in others.items()}


def _counter(tokenizer: Any) -> Count:
    return lambda texts: sum(len(found.ids) for found in tokenizer.encode_batch(texts, add_special_tokens=False))


def fertility(files: Sequence[Path], names: dict[str, Count], num_bytes: int) -> None:
    """Print bytes per token of each file, and of all together."""
    table = Table("file", "language", "MB", *names, title="bytes per token")
    totals = np.zeros(len(names) + 1)
    for path in files:
        chosen, size = _first(path, num_bytes)
        row = np.array([size, *(count(chosen) for count in names.values())])
        totals += row
        table.add_row(path.stem, _language(chosen), f"{size / 1e6:.1f}", *(f"{size / n:.2f}" for n in row[1:]))
    table.add_section()
    table.add_row("all", "", f"{totals[0] / 1e6:.1f}", *(f"{totals[0] / n:.2f}" for n in totals[1:]))
    Console().print(table)


def _first(path: Path, num_bytes: int) -> tuple[list[str], int]:
    """The first texts of a file, of about so many bytes, and their bytes."""
    chosen: list[str] = []
    size = 0
    for text in texts(path):
        chosen.append(text)
        size += len(text.encode())
        if size >= num_bytes:
            break
    return chosen, size


def _language(chosen: Sequence[str]) -> str:
    """The language of most of the bytes."""
    from mindllm.language import language

    sizes: dict[str, int] = {}
    for text in chosen[:1000]:
        sizes[found] = sizes.get(found := language(text), 0) + len(text.encode())
    return max(sizes, key=lambda name: sizes[name])


def costs(documents: Path, work: Path, kind: str) -> None:
    """Learn from each language alone and from all, in several sizes; print what it took, and the straight-line fit."""
    rows: list[list[float]] = []
    for sample, vocab_size in itertools.product(_cost_samples(documents), COST_ENTRIES[kind]):
        counts = learn(documents, work / f"costs-{len(rows)}", kind, vocab_size, sample)
        sizes = {group: counts["sample"].get(group, {}).get("taken_bytes", 0) for group in GROUPS}
        took = counts["measured"]
        rows.append([1, *sizes.values(), vocab_size, took["memory"], took["seconds"]])
        shown = ", ".join(f"{group} {size / 1e6:.1f}" for group, size in sizes.items() if size)
        needed = f"{took['memory'] / 1e6:.0f} MB of memory, {took['seconds']} s of one core"
        print(f"{kind}, {vocab_size} entries, text: {shown} MB: {needed}", flush=True)
    _fit(kind, np.array(rows))


def _cost_samples(documents: Path) -> Iterator[dict[str, int]]:
    """Each language in some sizes, up to all there is; all of them together."""
    from mindllm.language import language_group
    from mindllm.tokenizer.sample import count

    totals = dict.fromkeys(GROUPS, 0)
    for (lang, _), (_, size) in count(sorted(documents.glob("*.parquet"))).items():
        totals[language_group(lang)] += size
    totals = {group: size for group, size in totals.items() if size}
    for group, total in totals.items():
        yield from ({group: size} for size in [*(size for size in COST_BYTES if size < total), total])
    for share in (0.25, 0.5, 1.0) if len(totals) > 1 else ():
        yield {group: int(total * share) for group, total in totals.items()}


def _fit(kind: str, rows: np.ndarray) -> None:
    """Least squares of the relative error."""
    for name, column in (("memory", -2), ("seconds", -1)):
        weights = 1 / rows[:, column]
        found, *_ = np.linalg.lstsq(rows[:, :-2] * weights[:, None], np.ones(len(rows)), rcond=None)
        ratio = rows[:, :-2] @ found / rows[:, column]
        terms = dict(zip(("fixed", *GROUPS, "entry"), (f"{term:.3g}" for term in found), strict=True))
        print(f"{kind}: {name} {terms}; fit / measured {ratio.min():.2f} to {ratio.max():.2f}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of *.jsonl files")
    parser.add_argument("--vocab-size", type=int, default=125_700)
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0])
    parser.add_argument("--sample", type=json.loads, default=dict.fromkeys(GROUPS, 10**9), help="sample_bytes, as JSON")
    parser.add_argument("--gpt2", type=Path, help="folder with vocab.json and merges.txt of GPT-2")
    parser.add_argument("--peer", type=Path, action="append", default=[], help="a tokenizer.json to compare with")
    parser.add_argument("--bytes", type=int, default=2_000_000, help="of each file, for bytes per token")
    parser.add_argument("--out", type=Path, help="where the tokenizer is left")
    parser.add_argument("--costs", action="store_true", help="measure time and memory by language and size instead")
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.jsonl"))
    if not files:
        parser.error(f"{options.folder}: no *.jsonl files")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_stage(files, work / "documents")
        if options.costs:
            costs(work / "documents", work, options.kind)
            return
        out = (options.out or work / "tokenizer").resolve()
        same = twice(work / "documents", out, work, options.kind, options.vocab_size, options.sample)
        fertility(files, counters(out, options.gpt2, options.peer), options.bytes)
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
