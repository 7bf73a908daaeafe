"""Bits per byte of an exported model on held-out text, beside a unigram and a trigram model trained on the same text.

Bits per byte compares models across tokenizers, languages and lengths: all bits (the end of each document included)
over the UTF-8 bytes of the text. Text, not token ids, is what goes in: held-out shards are decoded, and encoded again
by the exported tokenizer; or any text is measured (`texts`), without n-gram models, for there nothing says what a model
was trained on. Long documents are read in windows that overlap by half: beyond the first window, every token sees
at least half a window (model_bits.py). Cost: about two forward passes over the text, and what ngram.py needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.config import EvalConfig
from eval.contamination.texts import TextFile, list_files, read
from eval.exported import hash_model
from eval.model_bits import model_bits, open_model
from eval.ngram import Trigram
from mindllm.config import UserError
from mindllm.language import language
from mindllm.shards import Shards, list_split
from mindllm.stage import Stage, read_json, require, write_json
from mindllm.tokenizer import Tokenizer, load_tokenizer

MODELS = ("model", "unigram", "trigram")
_SHARD = "python -m data_pipeline shard CONFIG"


class Held(NamedTuple):
    """The held-out text of one source: token ids a document (without the end token), and UTF-8 bytes of all text."""

    documents: list[np.ndarray]
    num_bytes: int


def bpb(config: EvalConfig) -> int:
    """Bits per byte by source and language, of held-out text (beside n-gram models) or of any other."""
    inputs: dict[str, Any] = {"export": hash_model(config.model)}
    if config.texts:
        inputs["texts"] = {name: [f.hash() for f in files] for name, files in text_sources(config.texts).items()}
    else:
        inputs["shards"] = require(config.shards, _SHARD)["hash"]
    settings = {k: getattr(config, k) for k in ("max_bytes", "max_train_bytes", "batch_size")}
    stage = Stage(config.folder("bpb"), "bpb", settings, inputs)
    if stage.start(config.force):
        result = measure(config)
        write_json(stage.folder / "bpb.json", result)
        count = result["total"]["documents"]
        stage.finish(**{"in": count, "out": count, "unit": "documents", "bytes": result["total"]["bytes"]})
    print_bpb(read_json(stage.folder / "bpb.json"))
    return 0


def list_folders(shards: Path, split: str) -> dict[str, Path]:
    """Source name -> folder of its train or valid shards, by name. Raises UserError when no source has that
    part, RunFailed when one that the shard stage has made is gone."""
    found = {folder.parent.name: folder for folder in list_split(shards, split)}
    if not found:
        raise UserError(f"{shards}: no source has a {split} part; change shard.valid_fraction or add text: {_SHARD}")
    return found


def measure(config: EvalConfig) -> dict[str, Any]:
    """What bpb.json holds: by source, by language and in total documents, bytes, tokens, bits per byte of each model,
    and gains; notes: sentences."""
    model, tokenizer = open_model(config.model)
    if tokenizer.eos_token_id is None:
        raise RuntimeError(f"{config.model}: its tokenizer names no eos_token, which begins and ends every document")
    trigram, counted = (None, None) if config.texts else _fit(config, tokenizer)
    sources: dict[str, list[dict[str, Any]]] = {}
    languages: dict[str, list[dict[str, Any]]] = {}
    for name, texts in _held_texts(config).items():
        sources[name] = _rows(texts, model, tokenizer, trigram, config.batch_size)
        for text, row in zip(texts, sources[name], strict=True):
            languages.setdefault(language(text), []).append(row)
    everything = [row for rows in sources.values() for row in rows]
    return {
        "sources": {name: _per_byte(rows) for name, rows in sources.items()},
        "languages": {name: _per_byte(languages[name]) for name in sorted(languages)},
        "total": _per_byte(everything), "train": counted, "notes": list(_notes(everything)),
    }  # fmt: skip


def _fit(config: EvalConfig, tokenizer: Any) -> tuple[Trigram, dict[str, int]]:
    """The trigram model of the training text, and how much it is."""
    shard_tokenizer, train = load_tokenizer(config.tokenizer), list_folders(Path(config.shards), "train")
    parts = [encode(read_texts(f, shard_tokenizer, config.max_train_bytes), tokenizer) for f in train.values()]
    trigram = Trigram.fit([d for part in parts for d in part.documents], len(tokenizer), tokenizer.eos_token_id)
    return trigram, {
        "documents": sum(len(p.documents) for p in parts),
        "bytes": sum(p.num_bytes for p in parts),
    }


def _held_texts(config: EvalConfig) -> dict[str, list[str]]:
    """Source name -> the texts that are measured."""
    if not config.texts:
        shard_tokenizer, valid = load_tokenizer(config.tokenizer), list_folders(Path(config.shards), "valid")
        return {name: read_texts(folder, shard_tokenizer, config.max_bytes) for name, folder in valid.items()}
    return {
        name: up_to((d.text for file in files for d in read(file, "text", config.tokenizer)), config.max_bytes)
        for name, files in text_sources(config.texts).items()
    }


def text_sources(paths: Sequence[str]) -> dict[str, list[TextFile]]:
    """Files by the name of their source: a file's name, its path where two have one name; .bin files go together."""
    files = list_files(paths, "text")
    places: dict[str, set[Path]] = {}
    for file in files:
        places.setdefault(file.label, set()).add(file.path)
    found: dict[str, list[TextFile]] = {}
    for file in files:
        name = file.label if len(places[file.label]) == 1 else file.path.as_posix()
        found.setdefault(name, []).append(file)
    return found


def up_to(texts: Iterable[str], max_bytes: int) -> list[str]:
    """The first texts, as many as fit into `max_bytes` of UTF-8, but at least one."""
    taken: list[str] = []
    size = 0
    for text in texts:
        size += len(text.encode("utf-8"))
        if taken and size > max_bytes:
            break
        taken.append(text)
    return taken


def _rows(
    texts: list[str], model: Any, tokenizer: Any, trigram: Trigram | None, batch_size: int
) -> list[dict[str, Any]]:
    """bytes, tokens and the bits of each model of every text."""
    documents = encode(texts, tokenizer).documents
    # A text begins with bos_token_id: in models of ours the token that ends documents, in others often one of its own.
    begin = model.config.bos_token_id
    bits = {"model": model_bits(model, documents, tokenizer.eos_token_id, batch_size, begin).tolist()}
    if trigram is not None:
        bits |= {"unigram": [*map(trigram.unigram_bits, documents)], "trigram": [*map(trigram.bits, documents)]}
    return [
        {
            "bytes": len(text.encode("utf-8")),
            "tokens": len(document) + 1,
            "unknown": int((document == tokenizer.unk_token_id).sum()),
            **{m: bits[m][k] for m in bits},
        }
        for k, (text, document) in enumerate(zip(texts, documents, strict=True))
    ]


def _notes(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What keeps the numbers from being compared: one token for any unknown character is cheap to tell."""
    if unknown := sum(row["unknown"] for row in rows):
        share = unknown / sum(row["tokens"] for row in rows)
        yield f"{share:.1%} of the tokens stand for text that the tokenizer does not know: bits per byte are too low"


def _per_byte(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over documents, bits per byte (None without text or model), and gains over the unigram model (1 - bits / its
    bits).
    """
    counts = {"documents": len(rows), **{key: sum(row[key] for row in rows) for key in ("bytes", "tokens")}}
    bits = {m: sum(row[m] for row in rows) for m in MODELS if rows and m in rows[0]} if counts["bytes"] else {}
    per_byte = {m: round(bits[m] / counts["bytes"], 5) if m in bits else None for m in MODELS}
    unigram = bits.get("unigram")
    return {
        **counts,
        "bpb": per_byte,
        "gain": {m: round(1 - bits[m] / unigram, 5) if unigram else None for m in MODELS},
    }


def read_texts(folder: Path, tokenizer: Tokenizer, max_bytes: int) -> list[str]:
    """The texts of a shard folder from the start, as many as fit into `max_bytes` of UTF-8, but at least one.

    Raises UserError when `tokenizer` is not the one that the shards were written with.
    """
    shards = Shards(folder)
    if shards.meta["tokenizer"] != tokenizer.fingerprint:
        raise UserError(f"{folder} was not written with the tokenizer in {tokenizer.folder}; set tokenizer=FOLDER")
    return up_to((tokenizer.decode(document[:-1].tolist()) for document in shards.documents()), max_bytes)


def encode(texts: Sequence[str], tokenizer: Any) -> Held:
    """Texts as the exported tokenizer sees them: nothing added, and what looks like a control token is text as well."""
    if not texts:
        return Held([], 0)
    found = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return Held([np.array(ids, dtype=np.int64) for ids in found], sum(len(t.encode("utf-8")) for t in texts))


def print_bpb(result: dict[str, Any]) -> None:
    """Bits per byte by source, by language and in total, as a table."""
    title = "bits per byte; gain over unigram"
    table = Table("source", title=title, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("documents", "bytes", "model", "unigram", "trigram", "gain"):
        table.add_column(column, justify="right")
    languages = result.get("languages", {})
    for name, row in [*result["sources"].items(), *languages.items(), ("total", result["total"])]:
        values = [f"{row['bpb'][m]:.3f}" if row["bpb"][m] is not None else "-" for m in MODELS]
        gain = row["gain"]["model"]
        values.append(f"{gain:.1%}" if gain is not None else "-")
        table.add_row(escape(name), f"{row['documents']:,}", f"{row['bytes']:,}", *values)
    Console().print(table)
    for note in result.get("notes", []):
        Console().print(f"note: {note}", markup=False, highlight=False)
