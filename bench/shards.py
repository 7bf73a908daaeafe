"""Text to token shards: the verb shard next to Hugging Face `datasets`, with the same tokenizer on the same files.

    python bench/shards.py TEXTS [...] --tokenizer FOLDER [--megabytes 30] [--pairs 3] [--workers 1 2]

TEXTS: files, or folders of files, of JSON lines {"text"}; an even part of each. FOLDER: what the tokenizer stage makes.
Ours: encode, hold out, permute, pack, with hashes and document ends. The peer: load_dataset("parquet"), map (batched,
fast tokenizer, the eos appended, num_proc, columns removed), and the ids written to one flat uint32 file, unpermuted.
Each pass is a process of its own with an empty cache. Seconds are of the wall clock, from the first look at the files
to the last byte written: start of workers and the copy that load_dataset makes included, imports not. CPU seconds are
those of all its processes meanwhile: believe these on a machine that others use. With num_proc the peer's own threads
are off (TOKENIZERS_PARALLELISM=false, RAYON_NUM_THREADS=1), as its manual asks; one more line has them on, in one
process. Pairs take turns; shown are medians, and the medians of the ratios of pairs. Both must give the same documents,
as multisets of token ids, else the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import text_files

OURS, PEER = "ours", "datasets"
Seconds = tuple[float, float]  # of the wall clock, of the processors
SHARD_BYTES = 4_000_000


def read_texts(paths: Sequence[str], num_bytes: int) -> Iterator[str]:
    """An even part of each file, about `num_bytes` in all."""
    files = [path for path in text_files(paths) if path.suffix == ".jsonl"]
    total = sum(path.stat().st_size for path in files)
    for path in files:
        left = num_bytes * path.stat().st_size / total
        with open(path, encoding="utf-8") as file:
            for line in file:
                text: str = json.loads(line)["text"]
                yield text
                left -= len(text.encode())
                if left <= 0:
                    break


def write_refined(run: Path, texts: Iterator[str]) -> int:
    """A complete refine stage of these texts; UTF-8 bytes of all."""
    from data_pipeline.document import Document
    from data_pipeline.parquet import SCHEMA, write_rows
    from mindllm.stage import Stage
    from mindllm.text import language

    stage = Stage(run / "refine", "refine", {}, {"made by": "bench/shards.py"})
    stage.start()
    total, number, text = 0, 0, next(texts, None)
    for shard in range(1 << 30):
        if text is None:
            break
        size = 0
        with write_rows(run / "refine" / f"bench-{shard:05d}.parquet", SCHEMA) as rows:
            while text is not None and size < SHARD_BYTES:
                rows.add_document(Document(text, f"bench/{number}", lang=language(text), source="bench"))
                size, number = size + len(text.encode()), number + 1
                text = next(texts, None)
        total += size
    stage.finish(**{"in": number, "out": number, "unit": "documents"})
    return total


class Clock:
    """Seconds of the wall clock, and of the processors (of this process and of those that it has waited for)."""

    def __init__(self) -> None:
        self._start = self._now()

    def read(self) -> tuple[float, float]:
        """Since it was made."""
        return tuple(b - a for a, b in zip(self._start, self._now(), strict=True))  # type: ignore[return-value]

    @staticmethod
    def _now() -> tuple[float, float]:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in used)


def our_pass(run: Path, tokenizer: str, workers: int) -> Seconds:
    """Seconds of the verb shard."""
    from data_pipeline.config import DataConfig, ShardConfig
    from data_pipeline.shard import shard
    from data_pipeline.sources import Source
    from data_pipeline.workers import WorkersConfig

    settings, where = ShardConfig(tokenizer=tokenizer), WorkersConfig(num_workers=workers)
    config = DataConfig({"bench": Source("x")}, {}, {}, run=str(run), shard=settings, workers=where)
    shutil.rmtree(run / "shards", ignore_errors=True)  # of the last pass: what is complete would not be done again
    clock = Clock()
    shard(config)
    return clock.read()


def peer_pass(run: Path, tokenizer: str, workers: int) -> Seconds:
    """Seconds of load_dataset, map and writing."""
    import datasets
    import numpy as np
    import transformers

    datasets.disable_progress_bars()
    fast = transformers.AutoTokenizer.from_pretrained(tokenizer)
    eos = [fast.eos_token_id]

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids = fast(batch["text"], add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        return {"ids": [document + eos for document in ids]}

    files = sorted(str(path) for path in (run / "refine").glob("*.parquet"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as cache:
        data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
        done = data.map(encode, batched=True, num_proc=workers or None, remove_columns=data.column_names)
        with open(run / "peer.bin", "wb") as out:
            for chunk in done.data.column("ids").chunks:
                out.write(chunk.flatten().to_numpy().astype(np.uint32).data)
        return clock.read()


def measure(way: str, run: Path, tokenizer: str, workers: int, threads: bool = False) -> Seconds:
    """Seconds of one pass in a process of its own. threads: the peer's tokenizer may use all cores."""
    environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": str(threads).lower()}
    environment |= {} if threads else {"RAYON_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), str(run), "--tokenizer", tokenizer]
    done = subprocess.run(
        [*command, "--way", way, "--workers", str(workers)], env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{way} with {workers} workers ended with exit code {done.returncode}:\n{done.stdout}")
    wall, cpu = map(float, done.stdout.split()[-2:])
    return wall, cpu


def our_documents(run: Path) -> Counter[bytes]:
    """Hashes of the token ids of all documents, with their number."""
    import numpy as np
    import xxhash

    from mindllm.shards import Shards

    folders = [path.parent for path in (run / "shards").glob("*/*/meta.json")]
    return Counter(
        xxhash.xxh3_128_digest(ids.astype(np.uint32).tobytes()) for path in folders for ids in Shards(path).documents()
    )


def peer_documents(run: Path, eos_id: int) -> Counter[bytes]:
    """The same of the peer's file."""
    import numpy as np
    import xxhash

    tokens = np.fromfile(run / "peer.bin", dtype=np.uint32)
    ends = np.flatnonzero(tokens == eos_id) + 1
    return Counter(xxhash.xxh3_128_digest(ids.tobytes()) for ids in np.split(tokens, ends)[:-1])


def compare(run: Path, tokenizer: str, num_bytes: int, workers: Sequence[int], pairs: int) -> bool:
    """Print the table; whether both sides gave the same documents."""
    from mindllm.tokenizer import load_tokenizer

    measure(OURS, run, tokenizer, 1), measure(PEER, run, tokenizer, 1)  # not counted: files come into the cache
    ours, peers = our_documents(run), peer_documents(run, load_tokenizer(tokenizer).eos_id)
    num_tokens = (run / "peer.bin").stat().st_size // 4
    print(f"{'':24}{'seconds':>9}{'MB/s':>8}{'Mtokens/s':>11}{'ratio':>8}{'CPU s':>8}{'ratio':>8}", flush=True)
    for number in workers:
        rows = [(measure(PEER, run, tokenizer, number), measure(OURS, run, tokenizer, number)) for _ in range(pairs)]
        show(f"datasets, num_proc={number}", [peer for peer, _ in rows], num_bytes, num_tokens)
        show(f"ours, workers={number}", [mine for _, mine in rows], num_bytes, num_tokens, [peer for peer, _ in rows])
    threaded = [measure(PEER, run, tokenizer, 0, threads=True) for _ in range(pairs)]
    show("datasets, its threads", threaded, num_bytes, num_tokens)
    print(f"{num_bytes / 1e6:.1f} MB, {num_tokens:,} tokens, {ours.total():,} documents; ratio: datasets / ours")
    print("the same documents on both sides" if ours == peers else "DIFFERENT documents", flush=True)
    return ours == peers


def show(name: str, passes: Sequence[Seconds], num_bytes: int, num_tokens: int, peers: Sequence[Seconds] = ()) -> None:
    """A line of the table; `peers` are the passes that these were paired with."""
    wall, cpu = (statistics.median(seconds) for seconds in zip(*passes, strict=True))
    wall_ratio, cpu_ratio = "", ""
    if peers:
        pairs = list(zip(peers, passes, strict=True))
        wall_ratio, cpu_ratio = (f"{statistics.median(a[k] / b[k] for a, b in pairs):.2f}" for k in (0, 1))
    speeds = f"{num_bytes / wall / 1e6:8.2f}{num_tokens / wall / 1e6:11.2f}"
    print(f"{name:24}{wall:9.2f}{speeds}{wall_ratio:>8}{cpu:8.2f}{cpu_ratio:>8}", flush=True)


def main() -> None:
    """The command line; `--way` is how the script starts itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", metavar="TEXTS")
    parser.add_argument("--tokenizer", required=True, metavar="FOLDER")
    parser.add_argument("--megabytes", type=float, default=30)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--way", choices=(OURS, PEER), help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    tokenizer = str(Path(options.tokenizer).resolve())
    if options.way:
        one_pass = our_pass if options.way == OURS else peer_pass
        print(*one_pass(Path(options.texts[0]), tokenizer, options.workers[0]))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        num_bytes = write_refined(run, read_texts(options.texts, int(options.megabytes * 1e6)))
        sys.exit(0 if compare(run, tokenizer, num_bytes, options.workers, options.pairs) else 1)


if __name__ == "__main__":
    main()
