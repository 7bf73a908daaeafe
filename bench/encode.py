"""Encoding: MB and tokens a second and core of Tokenizer.encode_batch, of its model alone, and of the same tokenizer
in Hugging Face's libraries, on the same texts, in turns. The exit code is 1 if any id differs.

    python bench/encode.py [FILE ...] [--tokenizer FOLDER] [--repeats 5] [--max-mb 8]

Each FILE (.jsonl with the key "text", any other file one text; samples/prose without any) is a row. Without FOLDER, a
SentencePiece tokenizer is learned from samples/prose (3 s). The texts of a file are dealt out into two halves: what is
measured is the second. cold: nothing is remembered (chunks.py). warm: the first half was encoded before, which is how
texts of a large corpus are met. again: the same texts once more, the most that remembering can give.
Peers: `model`, SentencePiece or tokenizers text by text; `tokenizers`, encode_batch_fast of tokenizer.json;
`transformers`, a call of AutoTokenizer. All in this process with one thread (RAYON_NUM_THREADS=1), CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}

from common import SAMPLE_TEXTS, read_text, text_files  # noqa: E402

OURS = ("cold", "warm", "again")
PEERS = ("model", "tokenizers", "transformers")
LEARNED = 4096  # pieces of the tokenizer that is learned where none is given

Texts = list[str]
Encode = Callable[[Texts], Sequence[Any]]


class Row(NamedTuple):
    """A name, the texts that come before, those that are measured."""

    name: str
    before: Texts
    texts: Texts


def read_rows(paths: Sequence[str], max_bytes: int) -> Iterator[Row]:
    """A row for each file; all files below a folder are one. Ends the program where a row has fewer than two texts."""
    for path in paths:
        texts: Texts = []
        size = 0
        for text in (text for file in text_files([path]) for text in _texts_of(file)):
            texts.append(text)
            size += len(text.encode())
            if size > max_bytes:
                break
        if len(texts) == 1:  # one long text: halves of its lines
            lines = texts[0].splitlines(keepends=True)
            texts = ["".join(lines[i : i + 100]) for i in range(0, len(lines), 100)]
        if len(texts) < 2:
            raise SystemExit(f"{path}: needs at least two texts, or a text of more than 100 lines")
        yield Row(Path(path).stem, texts[::2], texts[1::2])


def _texts_of(file: Path) -> Iterator[str]:
    content = read_text(file)
    if not file.name.removesuffix(".gz").endswith(".jsonl"):
        yield content
        return
    for line in content.split("\n"):
        if line.strip():
            yield json.loads(line)["text"]


def learn(folder: Path) -> None:
    """A small SentencePiece tokenizer of samples/prose."""
    from mindllm.tokenizer.fast import write_twin
    from mindllm.tokenizer.pieces import MODEL_FILE, train_model

    lines = [line for file in text_files([SAMPLE_TEXTS]) for line in read_text(file).split("\n") if line]
    (folder / MODEL_FILE).write_bytes(train_model(lines, LEARNED, 0.9995, split_digits=True))
    write_twin(folder)


def peers(folder: Path) -> dict[str, Encode]:
    """What the others do with a list of texts; control tokens that texts spell out are text, as for us."""
    import tokenizers
    import transformers

    from mindllm.tokenizer.bytelevel import ByteLevel
    from mindllm.tokenizer.pieces import MODEL_FILE, Pieces

    alone = (Pieces if (folder / MODEL_FILE).exists() else ByteLevel)(folder)
    fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast.encode_special_tokens = True
    loaded = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, split_special_tokens=True)
    return {
        "model": lambda texts: [alone.encode(text) for text in texts],
        "tokenizers": lambda texts: [e.ids for e in fast.encode_batch_fast(texts, add_special_tokens=False)],
        "transformers": lambda texts: loaded(
            texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
        )["input_ids"],
    }


def timed(encode: Encode, texts: Texts) -> tuple[float, Sequence[Any]]:
    """CPU seconds, and the ids."""
    start = time.process_time()
    found = encode(texts)
    return time.process_time() - start, found


def one_round(folder: Path, row: Row, others: dict[str, Encode]) -> tuple[dict[str, float], int, set[str]]:
    """CPU seconds of every side, number of tokens, and the sides whose ids differ from ours."""
    from mindllm.tokenizer import load_tokenizer

    cold, warm = load_tokenizer(folder), load_tokenizer(folder)
    seconds, wrong = {}, set()
    seconds["cold"], ours = timed(cold.encode_batch, row.texts)
    ids = [found.tolist() for found in ours]
    warm.encode_batch(row.before)
    for name, encode in (("warm", warm.encode_batch), ("again", warm.encode_batch), *others.items()):
        seconds[name], theirs = timed(encode, row.texts)
        if any(list(a) != b for a, b in zip(theirs, ids, strict=True)):
            wrong.add(name)
    return seconds, sum(map(len, ids)), wrong


def measure(folder: Path, row: Row, others: dict[str, Encode], repeats: int) -> set[str]:
    """Print a file's lines; the sides whose ids differ from ours."""
    size = sum(len(text.encode()) for text in row.texts)
    passes, wrong, num_tokens = [], set(), 0
    for _ in range(repeats):
        seconds, num_tokens, different = one_round(folder, row, others)
        passes.append(seconds)
        wrong |= different
    print(f"{row.name}: {len(row.texts):,} texts, {size / 1e6:.1f} MB, {size / num_tokens:.2f} bytes a token")
    for side in (*OURS, *others):
        second = statistics.median(p[side] for p in passes)
        ratios = [p[side] / p["warm"] for p in passes]
        spread = f"{statistics.median(ratios):5.1f} ({min(ratios):.1f} to {max(ratios):.1f})" if side in others else ""
        differs = "  IDS DIFFER" if side in wrong else ""
        name = side if side in others else f"mindllm, {side}"
        print(f"  {name:15} {size / second / 1e6:6.1f} {num_tokens / second / 1e6:9.2f}  {spread}{differs}")
    return wrong


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=[str(SAMPLE_TEXTS)], metavar="FILE")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="a tokenizer folder of ours, of either kind")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-mb", type=float, default=8, help="of each file, from its beginning")
    options = parser.parse_args()
    rows = list(read_rows(options.files, int(options.max_mb * 1e6)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.tokenizer or Path(temporary)
        if not options.tokenizer:
            learn(folder)
        others = peers(folder)
        print("RAYON_NUM_THREADS=1: one thread each, CPU seconds, median of the repeats")
        print(f"  {'side':15} {'MB/s':>6} {'Mtokens/s':>9}  mindllm, warm, is faster by: median (range)")
        wrong = [measure(folder, row, others, options.repeats) for row in rows]
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
