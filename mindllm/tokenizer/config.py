"""TokenizerConfig: which kind of tokenizer is learned from which text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from mindllm.text import LANGUAGES
from mindllm.tokenizer.special import CONTROL, MASKS, NUM_BYTES

KINDS = ("sentencepiece", "byte-level", "enlarged")  # that are learned
ADOPTED = "adopted"
GROUPS = ("zh", "en", "other")
# What a kind does not look at: such a key must have its default (vocab_size, which follows from the others: 0).
UNUSED = {
    "sentencepiece": ("base", "new_tokens"),
    "byte-level": ("base", "new_tokens", "character_coverage"),
    "enlarged": ("vocab_size", "split_digits"),
    ADOPTED: ("vocab_size", "new_tokens", "character_coverage", "split_digits", "max_memory_gb", "seed"),
}
MAX_ENTRIES = 10_000_000


@dataclass
class TokenizerConfig:
    """A tokenizer learned from clean text, or another project's.

    documents: a complete stage folder of Parquet shards.  out: where the tokenizer goes.  kind: sentencepiece (BPE over
    characters), byte-level (BPE over bytes, as GPT-2's), enlarged (`base`, a byte-level tokenizer, and `new_tokens`
    more for Chinese; old ids stay), adopted (`base` as it is, any tokenizer.json, so that weights trained with it can
    be gone on with; documents are not read).  base: a folder with tokenizer.json, or vocab.json and merges.txt, or a
    name on the hub (owner/name, owner/name@commit).  vocab_size: exact number of entries, special ones included (0 for
    enlarged and adopted: it follows).  sample_bytes: how much text is learned from, at most, by language (zh, en,
    other, zh-Hans, zh-Hant) or language/source. A document counts for one key, the most exact: zh-Hant/web, then
    zh/web, then zh-Hant, then zh; without a key it is not learned from.  character_coverage: share of the characters
    that become pieces, the rarest are written as bytes (sentencepiece, enlarged).  split_digits: every digit is a token
    (sentencepiece, byte-level).  max_memory_gb: refuse a sample that is estimated to need more (0: what the machine has
    free).  seed: which documents are drawn.
    """

    run: str = "runs/demo"
    documents: str = "{run}/refine"
    out: str = "{run}/tokenizer"
    kind: str = "sentencepiece"
    base: str = ""
    new_tokens: int = 0
    vocab_size: int = 4096
    sample_bytes: dict[str, int] = field(
        default_factory=lambda: {"zh": 500_000_000, "en": 500_000_000, "other": 50_000_000}
    )
    character_coverage: float = 0.9995
    split_digits: bool = True
    max_memory_gb: float = 0.0
    seed: int = 1
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if self.kind not in UNUSED:
            yield f"kind: {self.kind!r} is none of {', '.join(UNUSED)}"
        else:
            yield from self._unused()
            yield from self._sizes()
        if self.kind != ADOPTED:
            yield from self._sample()
        if not 0.98 <= self.character_coverage <= 1:
            yield f"character_coverage: {self.character_coverage} is not in [.98, 1]"
        if not 0 <= self.max_memory_gb < float("inf"):
            yield "max_memory_gb: must be a number of GB, 0 or more"

    def _unused(self) -> Iterator[str]:
        defaults = {f.name: f.default for f in dataclasses.fields(self)} | {"vocab_size": 0}
        for key in UNUSED[self.kind]:
            if getattr(self, key) != defaults[key]:
                sources = "base" if self.kind == ADOPTED else "base and new_tokens"
                follows = f"it follows from {sources} and must be" if key == "vocab_size" else "leave it at"
                yield f"{key}: does nothing for kind {self.kind}; {follows} {defaults[key]!r}"

    def _sizes(self) -> Iterator[str]:
        if self.kind == ADOPTED:
            if not self.base:
                yield "base: kind adopted needs the folder or the name of the tokenizer"
            return
        if self.kind == "enlarged":
            if not self.base or not 1 <= self.new_tokens <= MAX_ENTRIES:
                yield f"base and new_tokens (1 to {MAX_ENTRIES:,}): kind enlarged needs both"
            return
        fixed = (
            len(CONTROL) + len(MASKS) + NUM_BYTES + (2 if self.kind == "sentencepiece" else 0)
        )  # unknown, line break
        if not fixed < self.vocab_size <= MAX_ENTRIES:
            yield (f"vocab_size: {self.vocab_size} is not in [{fixed + 1}, {MAX_ENTRIES:,}]; "
                   f"{fixed} are special and byte tokens")  # fmt: skip

    def _sample(self) -> Iterator[str]:
        if not self.sample_bytes:
            yield "sample_bytes: names no language, so there is nothing to learn from"
        for key, limit in self.sample_bytes.items():
            language, slash, source = key.partition("/")
            if language not in (*GROUPS, *LANGUAGES) or bool(slash) != bool(source):
                yield f"sample_bytes.{key}: write LANGUAGE or LANGUAGE/SOURCE, of {', '.join(_languages())}"
            if limit < 0:
                yield f"sample_bytes.{key}: {limit} is less than 0"


def _languages() -> list[str]:
    return list(dict.fromkeys((*GROUPS, *LANGUAGES)))
