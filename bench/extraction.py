"""Main-text extraction: F1 and pages a second of ours and of other extractors on pages whose main text is known.

    python bench/extraction.py FOLDER [FOLDER ...] [--peers PYTHON] [--worst 10]

PYTHON is the interpreter of an environment with trafilatura, readability-lxml and resiliparse; without it only ours is
measured. Every extractor runs in fresh processes of its own, one set at a time, so that none warms the caches of
another; importing is not counted, decoding bytes is. A FOLDER is one set, or holds folders that are, in a layout of:
- pages.jsonl.gz: one page a line, {"key", "lang", "text", "html_b64"};
- ground-truth.json or .json.gz, {key: {"articleBody"}}, with html/KEY.html.gz or html.tar.gz (the layout of the
  article-extraction benchmark);
- pages.tar.gz, with original/NAME.html and cleaned/NAME.txt.

The measure is that benchmark's, with tokens for Chinese too: a token is one Han character or one run of ASCII letters
and digits, a shingle is four tokens in a row (all of them where there are fewer). What text and truth have in common,
as multisets of shingles, over those of the text is the page's precision, over those of the truth its recall; both are
averaged over pages (an empty text has no precision, an empty truth no recall), and F1 is of these averages.
Memory: one set, with its raw pages.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OURS = "mindllm"
SHINGLE = 4
_TOKEN = re.compile("[\u3400-\u9fff]|[A-Za-z0-9_]+")

Extract = Callable[[bytes], str]


class Page(NamedTuple):
    """A page whose main text is known."""

    key: str
    lang: str  # "" where the set does not say
    html: bytes
    truth: str


class Result(NamedTuple):
    """What an extractor made of one page. None: nothing to divide by."""

    key: str
    lang: str
    precision: float | None
    recall: float | None
    seconds: float  # of processor time


def sets_below(folders: Sequence[str]) -> Iterator[Path]:
    """The folders that are sets, by name. Raises SystemExit for a folder without any."""
    for name in folders:
        found = [p for p in (Path(name), *sorted(Path(name).glob("*/"))) if any(_layouts(p))]
        if not found:
            raise SystemExit(f"{name}: no pages.jsonl.gz, ground-truth.json or pages.tar.gz in it or one folder below")
        yield from found


def _layouts(folder: Path) -> Iterator[tuple[Path, Callable[[Path], Iterator[Page]]]]:
    for name, reader in (
        ("pages.jsonl.gz", _from_lines),
        ("ground-truth.json", _from_ground_truth),
        ("ground-truth.json.gz", _from_ground_truth),
        ("pages.tar.gz", _from_pairs),
    ):
        if (folder / name).is_file():
            yield folder / name, reader


def read_set(folder: Path) -> list[Page]:
    """All pages of a set that have a truth, in a stable order."""
    path, reader = next(_layouts(folder))
    return sorted(page for page in reader(path) if page.truth.strip())


def _from_lines(path: Path) -> Iterator[Page]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield Page(row["key"], row.get("lang", ""), base64.b64decode(row["html_b64"]), row["text"])


def _from_ground_truth(path: Path) -> Iterator[Page]:
    truths = json.loads(_opened(path.name, path.read_bytes()))
    for name, data in _files(path.parent):
        key = PurePosixPath(name).name.split(".")[0]
        if key in truths:
            yield Page(key, "", _opened(name, data), truths[key]["articleBody"])


def _from_pairs(path: Path) -> Iterator[Page]:
    raw: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for name, data in _members(path):
        place = PurePosixPath(name)
        if place.parts[0] == "original":
            raw[place.stem] = data
        elif place.parts[0] == "cleaned":
            texts[place.stem] = data.decode("utf-8", "replace")
    return (Page(key, "", raw[key], texts[key]) for key in raw.keys() & texts.keys())


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    if (folder / "html").is_dir():
        yield from ((path.name, path.read_bytes()) for path in (folder / "html").iterdir())
    else:
        yield from _members(folder / "html.tar.gz")


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            file = opened.extractfile(member)
            if file is not None:
                yield member.name, file.read()


def _opened(name: str, data: bytes) -> bytes:
    return gzip.decompress(data) if name.endswith(".gz") else data


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """The multiset of runs of four tokens."""
    tokens = _TOKEN.findall(text)
    starts = range(max(1, len(tokens) - SHINGLE + 1)) if tokens else ()
    return Counter(tuple(tokens[i : i + SHINGLE]) for i in starts)


def judge(truth: str, text: str) -> tuple[float | None, float | None]:
    """Precision and recall of one page's text; None where there is nothing to divide by."""
    wanted, found = shingles(truth), shingles(text)
    common = (wanted & found).total()
    return common / found.total() if found else None, common / wanted.total() if wanted else None


def f1(results: Sequence[Result]) -> tuple[float, float, float]:
    """Precision and recall averaged over the pages that have them, and the harmonic mean of the two averages."""
    precision, recall = (
        sum(values) / max(1, len(values))
        for values in (
            [r.precision for r in results if r.precision is not None],
            [r.recall for r in results if r.recall is not None],
        )
    )
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _ours() -> Extract:
    sys.path.insert(0, str(ROOT))  # here, not above: the peers' interpreter runs this file, too
    from data_pipeline.cleaners.html import extract_text

    return extract_text


def _trafilatura_fast() -> Extract:
    import trafilatura  # type: ignore[import-not-found]

    return lambda html: trafilatura.extract(html, include_comments=False, fast=True) or ""


def _resiliparse() -> Extract:
    from resiliparse.extract.html2text import extract_plain_text

    decode = _decoder()
    return lambda html: extract_plain_text(decode(html), main_content=True, alt_texts=False)


def _readability() -> Extract:
    import lxml.html  # type: ignore[import-untyped]
    from readability import Document  # type: ignore[import-not-found]

    decode = _decoder()  # its own decoding knows little but UTF-8
    return lambda html: "\n".join(lxml.html.fromstring(Document(decode(html)).summary()).itertext())


def _decoder() -> Extract:
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    return lambda html: bytes_to_str(html, detect_encoding(html) or "utf-8")


# name -> what imports the extractor from this interpreter's packages
EXTRACTORS: dict[str, Callable[[], Extract]] = {
    OURS: _ours,
    "trafilatura_fast": _trafilatura_fast,
    "readability": _readability,
    "resiliparse": _resiliparse,
}


def measure(name: str, folder: Path) -> list[Result]:
    """One pass of one extractor over one set in this process. An extractor that raises has found nothing."""
    extract, results = EXTRACTORS[name](), []
    for page in read_set(folder):
        start = time.process_time()
        try:
            text = extract(page.html) or ""
        except Exception as error:  # of any kind: peers raise their own
            print(f"{name} {folder.name}/{page.key}: {type(error).__name__}: {error}", file=sys.stderr)
            text = ""
        seconds = time.process_time() - start
        results.append(Result(page.key, page.lang, *judge(page.truth, text), seconds))
    return results


def _fresh_process(python: str, name: str, folder: Path) -> list[Result]:
    command = [python, str(Path(__file__).resolve()), str(folder), "--extractor", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {' '.join(command)} ended with exit code {done.returncode}; its messages are above")
    return [Result(*row) for row in json.loads(done.stdout.splitlines()[-1])]


def compare(folders: Sequence[str], pythons: dict[str, str], worst: int) -> None:
    """Print a line for every set, language and extractor; after each, the worst pages if asked."""
    print(f"{'set':20} {'language':8} {'pages':>5}  {'extractor':16} {'P':>6} {'R':>6} {'F1':>6} {'pages/s':>8}")
    for folder in sets_below(folders):
        for name, python in pythons.items():
            results = _fresh_process(python, name, folder)
            for lang in sorted({r.lang for r in results}):
                chosen = [r for r in results if r.lang == lang]
                head = f"{folder.name[:20]:20} {lang or '-':8} {len(chosen):5}  {name:16}"
                speed = len(chosen) / max(1e-9, sum(r.seconds for r in chosen))
                print(head, *(f"{value:6.3f}" for value in f1(chosen)), f"{speed:8.1f}", flush=True)
            for result in sorted(results, key=lambda r: (f1([r])[2], r.key))[:worst]:
                print("    P {:.3f}  R {:.3f}  F1 {:.3f}".format(*f1([result])), result.key)


def main() -> None:
    """The command line; `--extractor` is how the script starts itself in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of an environment that holds the peers")
    parser.add_argument("--worst", type=int, default=0, help="also list so many pages of the lowest F1")
    parser.add_argument("--extractor", choices=EXTRACTORS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.extractor:
        print(json.dumps(measure(options.extractor, Path(options.folders[0]))))
        return
    peers = {name: options.peers for name in EXTRACTORS if name != OURS} if options.peers else {}
    compare(options.folders, {OURS: sys.executable} | peers, options.worst)
    if not peers:
        print("peers were not measured: give --peers PYTHON, an environment made with")
        print("    python -m venv ENV; ENV/bin/pip install trafilatura readability-lxml resiliparse")


if __name__ == "__main__":
    main()
