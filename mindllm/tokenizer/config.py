"""TokenizerConfig: which kind of tokenizer is learned from which text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mindllm.text import LANGUAGES
from mindllm.tokenizer.special import CONTROL, MASKS, NUM_BYTES

KINDS = ("sentencepiece", "byte-level", "enlarged")
GROUPS = ("zh", "en", "other")


@dataclass
class TokenizerConfig:
    """A tokenizer learned from clean text.

    documents: a complete stage folder of Parquet shards.  out: where the tokenizer goes.  kind: sentencepiece (BPE over
    characters), byte-level (BPE over bytes, as GPT-2's), enlarged (`base`, a byte-level tokenizer, and `new_tokens`
    more for Chinese; old ids stay).  base: a folder with vocab.json and merges.txt, or a name on the hub.  vocab_size:
    exact number of entries, special ones included (0 for enlarged: it follows).  sample_bytes: how much text is learned
    from, at most, by language (zh, en, other, zh-Hans, zh-Hant) or language/source, the most exact one counts.
    split_digits: every digit is a token.  max_memory_gb: refuse a sample that is estimated to need more (0: what the
    machine has free).  seed: which documents are drawn.
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
        fixed = 2 + len(CONTROL) + len(MASKS) + NUM_BYTES
        if self.kind not in KINDS:
            yield f"kind: {self.kind!r} is none of {', '.join(KINDS)}"
        elif self.kind == "enlarged":
            if not self.base or self.new_tokens < 1 or self.vocab_size:
                yield "kind enlarged needs base and new_tokens; vocab_size follows from them and must be 0"
        elif self.base or self.new_tokens:
            yield "base and new_tokens are for kind enlarged only"
        elif self.vocab_size <= fixed:
            yield f"vocab_size: {self.vocab_size} leaves no room beside {fixed} special and byte tokens"
        for key in self.sample_bytes:
            if key.partition("/")[0] not in (*GROUPS, *LANGUAGES):
                yield f"sample_bytes.{key}: write LANGUAGE or LANGUAGE/SOURCE, of {', '.join((*GROUPS, *LANGUAGES))}"
        if not 0.9 <= self.character_coverage <= 1:
            yield f"character_coverage: {self.character_coverage} is not in [.9, 1]"
        if self.max_memory_gb < 0:
            yield "max_memory_gb: must be 0 or more"
