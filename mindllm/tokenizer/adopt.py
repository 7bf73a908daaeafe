"""Adopting a tokenizer: another project's tokenizer.json as it is, so that weights trained with it can be gone on with.

tokenizer.json and tokenizer_config.json are copied byte for byte, the bytes behind each token are added, and what the
tokenizer does with text is tried on examples in both languages: whatever does not come back as it was is said. Nothing
is learned and nothing of the base is executed. Cost: reading the file three times, 3 s and 300 MB for 150,000 tokens.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from mindllm.config import UserError
from mindllm.stage import atomic
from mindllm.tokenizer.base import FAST, SETTINGS, base_files
from mindllm.tokenizer.bytelevel import read_fast
from mindllm.tokenizer.config import TokenizerConfig
from mindllm.tokenizer.encode import load_tokenizer
from mindllm.tokenizer.fast import LENGTHS_FILE
from mindllm.tokenizer.foreign import Foreign, is_ours, read_settings
from mindllm.tokenizer.special import MASKS

MAX_FILE_BYTES = 256 << 20  # as in others.py
_MAX_TOKEN_BYTES = 0xFFFF  # token_bytes.npy holds uint16
# What tokenizers change, or lack: composed characters, wide ones, old forms of Han, blanks in odd places, U+2581.
EXAMPLES = (
    "The rain stopped before noon; they walked 12 miles.", "雨在中午前停了，他们走了12里路。",
    "雨在中午前停了，他們走了12里路。", " a blank before", "a blank after ", "two  blanks\n\n\tand more", "line\r\nend",
    "cafe\u0301", "ﬁt ②", "ＡＢＣ１２３，全角", "\u3000\u3000段首", "樂\uf914 㐂𠮷龘", "U+2581: ▁", "Big LETTERS",
    "😀\u200d", f"{MASKS[1]} <|endoftext|> </s>", "a\u0000b\u00a0c",
)  # fmt: skip


def adopted_plan(config: TokenizerConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the stage is made from: its settings, and the whole content of a base in a folder (of one on the hub the
    name has to do)."""
    folder = Path(config.base).expanduser()
    files = {name: folder / name for name in (FAST, SETTINGS) if (folder / name).is_file()}
    inputs = {name: hashlib.sha256(_read(path)).hexdigest()[:16] for name, path in files.items()}
    return {"kind": config.kind, "base": config.base}, {"base": inputs} if inputs else {}


def adopt(base: str, folder: Path) -> dict[str, Any]:
    """Write the files of the tokenizer stage, tokenizer.json last; the counts of meta.json.

    Raises UserError for what cannot be adopted, before anything is written.
    """
    files = base_files(base)
    if FAST not in files:
        found = ", ".join(files) or "none of a tokenizer"
        way_out = "transformers writes one: AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)"
        raise UserError(f"base: {base}: no {FAST} there (found: {found}); {way_out}")
    foreign = _open(files[FAST])
    lengths = [len(token) for token in foreign.token_bytes()]
    if max(lengths) > _MAX_TOKEN_BYTES:
        raise UserError(f"base: {base}: a token stands for {max(lengths)} bytes; {_MAX_TOKEN_BYTES} is the limit")
    _write(folder / SETTINGS, _read(files[SETTINGS]) if SETTINGS in files else _new_settings(foreign))
    with atomic(folder / LENGTHS_FILE) as path, open(path, "wb") as file:
        np.save(file, np.array(lengths, dtype=np.uint16))
    _write(folder / FAST, _read(files[FAST]))
    tokenizer = load_tokenizer(folder)
    changed = [(text, back) for text in EXAMPLES if (back := foreign.decode(foreign.encode(text))) != text]
    _say(base, foreign, changed)
    return {
        "in": sum(map(bool, lengths)), "out": tokenizer.vocab_size, "unit": "tokens with text -> pieces",
        "eos": [foreign.eos, foreign.eos_id], "pad_id": foreign.pad_id, "exact": foreign.exact,
        "changed": dict(changed),
    }  # fmt: skip


def _open(path: Path) -> Foreign:
    """The base. Raises UserError that names it, also where it is damaged."""
    _read(path)  # for its size
    try:
        fast = read_fast(path)
        foreign = Foreign(path.parent, fast)
    except UserError as error:
        raise UserError(f"base: {error}") from None
    except RuntimeError:
        raise UserError(f"base: {path}: damaged; it cannot be read as a tokenizer") from None
    if is_ours(fast):
        raise UserError(f"base: {path.parent}: this project's own tokenizer; name its folder as `tokenizer`, as it is")
    _check_settings(path, foreign)
    return foreign


def _check_settings(path: Path, foreign: Foreign) -> None:
    """Raises UserError where transformers would know words of text that tokenizer.json does not know."""
    listed = read_settings(path.with_name(SETTINGS)).get("added_tokens_decoder") or {}
    words = [token for token in listed.values() if isinstance(token, dict) and not token.get("special")]
    names = [word["content"] for word in words if isinstance(word.get("content"), str)]
    lacking = [name for name in names if foreign.token_id(name) is None]
    if lacking:
        raise UserError(
            f"base: {path.with_name(SETTINGS)}: names {len(lacking)} tokens that {path.name} does not have (the first: "
            f"{lacking[0]!r}), so programs would disagree about ids; let transformers write both files again"
        )


def _new_settings(foreign: Foreign) -> bytes:
    """A tokenizer_config.json for a base without one."""
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": foreign.eos}
    return json.dumps({**names, "clean_up_tokenization_spaces": False}, ensure_ascii=False, indent=1).encode()


def _say(base: str, foreign: Foreign, changed: list[tuple[str, str]]) -> None:
    pad = "the same" if foreign.pad_id == foreign.eos_id else str(foreign.pad_id)
    print(
        f"tokenizer: adopted {foreign.vocab_size:,} ids of {base} ({foreign.kind}); {foreign.eos} ({foreign.eos_id}) "
        f"ends documents, padding is {pad}; texts are encoded whole, which is slower than with our own kinds",
        flush=True,
    )
    if changed:
        text, back = changed[0]
        print(
            f"tokenizer: WARNING: this tokenizer does not bring every text back as it was: {ascii(text)} comes back "
            f"as {ascii(back)} ({len(changed)} of {len(EXAMPLES)} examples change; all are in meta.json). Bits per "
            "byte count the text that it sees",
            flush=True,
        )
    elif not foreign.exact:
        print("tokenizer: WARNING: this tokenizer may change texts; none of the examples showed how", flush=True)


def _read(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UserError(f"base: {path}: {size / 1e6:.0f} MB are too much for a tokenizer")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"base: {path}: cannot be read ({error.strerror})") from None


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)
