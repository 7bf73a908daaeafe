"""The tokenizer that is enlarged: a byte-level BPE that splits text as GPT-2 does, from a folder or from the hub.

Read as plain JSON and text, of limited size; nothing else of a repository is fetched, and no code of it runs. What does
not split as GPT-2 does is refused: its merges would meet other words than they were learned from, silently. With
vocab.json and merges.txt alone, which do not say how text is split, GPT-2's way is taken, unless a
tokenizer_config.json beside them names another class. 0.2 s and 50 MB for GPT-2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindllm.config import UserError
from mindllm.tokenizer.bytelevel import HAN_RUNS, Splitting, byte_names, read_splitting
from mindllm.tokenizer.special import MASKS

FAST, VOCAB, MERGES, SETTINGS = "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"
FILES = (FAST, VOCAB, MERGES, SETTINGS)  # nothing else is fetched
MAX_FILE_BYTES = 64_000_000
_MAX_OTHERS = 300  # entries that are neither bytes nor merged: special tokens
_OPTIONS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
_GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@[\w./-]+)?")


@dataclass(frozen=True)
class Base:
    """A byte-level BPE. vocab: every entry, name -> id, without gaps.  merges: best first.  control, words: the entries
    that no merge makes (special tokens, and words of text that are one token).  splitting: what comes before merging.
    """

    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    control: tuple[str, ...]
    words: tuple[str, ...]
    splitting: Splitting


def open_base(name: str) -> Base:
    """The tokenizer in a folder, or of a name on the hub (owner/name, owner/name@revision). Raises UserError."""
    return read_base(base_files(name), name)


def base_files(name: str) -> dict[str, Path]:
    """Those of FILES that there are, by name, in one folder: a user's, or what was fetched. Raises UserError."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return {file: folder / file for file in FILES if (folder / file).is_file()}
    if not _HUB_NAME.fullmatch(name):
        raise UserError(f"base: {name}: no such folder, and no name on the hub (owner/name)")
    return _fetch(name)


def read_base(files: dict[str, Path], name: str) -> Base:
    """The tokenizer of files by name: tokenizer.json, else vocab.json and merges.txt. Raises UserError."""
    for path in files.values():
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UserError(f"base: {path}: {size / 1e6:.0f} MB are too much for a tokenizer")
    try:
        base = _read(files, name)
        _check(base, name)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"base: {name}: damaged ({type(error).__name__}: {error})") from None
    return base


def _read(files: dict[str, Path], name: str) -> Base:
    if FAST in files:
        return _from_fast(_json(files[FAST]), str(files[FAST]))
    if VOCAB in files and MERGES in files:
        return _from_parts(files, name)
    raise UserError(f"base: {name}: no {FAST} there, nor {VOCAB} with {MERGES} (found: {', '.join(files) or 'none'})")


def _from_fast(state: dict[str, Any], where: str) -> Base:
    """Of tokenizer.json: only what `make` in bytelevel.py can make again, exactly."""
    model, added = state.get("model") or {}, state.get("added_tokens") or []
    splitting = read_splitting(state.get("pre_tokenizer") or {})
    unusual = [key for key in _OPTIONS if model.get(key)]
    kind = model.get("type", "BPE" if "merges" in model else "none")
    if kind != "BPE" or unusual or state.get("normalizer"):
        what = f"its model is {kind}" if kind != "BPE" else ", ".join(unusual) or "it changes text before encoding"
        raise UserError(f"base: {where}: no plain byte-level BPE ({what}); only such a one can be enlarged")
    if splitting is None or splitting.han not in ("", HAN_RUNS):
        raise UserError(f"base: {where}: does not split text as GPT-2 does; its merges cannot be kept as they are")
    for token in added:
        strange = [key for key in ("lstrip", "rstrip", "single_word") if token.get(key)]
        if strange or not (token.get("special") or token.get("content") in MASKS):
            raise UserError(f"base: {where}: added token {token.get('content')!r} is no plain special token")
    merges = _pairs((m.split(" ") if isinstance(m, str) else m for m in model["merges"]), where)
    vocab = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
    control = tuple(token["content"] for token in added if token["special"])
    return Base(vocab, merges, control, tuple(t["content"] for t in added if not t["special"]), splitting)


def _from_parts(files: dict[str, Path], name: str) -> Base:
    """Of vocab.json and merges.txt, split as GPT-2 does; what no merge makes is a special token."""
    settings = _json(files[SETTINGS]) if SETTINGS in files else {}
    kind = settings.get("tokenizer_class") or _GPT2_CLASSES[0]
    if kind not in _GPT2_CLASSES or settings.get("add_prefix_space"):
        what = "adds a blank before texts" if kind in _GPT2_CLASSES else f"is a {kind}"
        raise UserError(f"base: {name}: {what}, so it does not split text as GPT-2 does; it cannot be enlarged")
    vocab = _json(files[VOCAB])
    lines = [line.rstrip("\r") for line in _text(files[MERGES]).split("\n")]
    merges = _pairs((line.split(" ") for line in lines[lines[0].startswith("#version") :] if line), name)
    made = {"".join(merge) for merge in merges} | set(byte_names())
    others = sorted((token for token in vocab if token not in made), key=lambda t: vocab[t])
    words = tuple(token for token in others if token in MASKS)
    return Base(vocab, merges, tuple(t for t in others if t not in MASKS), words, Splitting(""))


def _pairs(merges: Iterable[Sequence[str]], where: str) -> list[tuple[str, str]]:
    found = []
    for number, merge in enumerate(merges, 1):
        if len(merge) != 2:
            raise UserError(f"base: {where}: merge {number} ({' '.join(merge)[:60]!r}) is not two tokens")
        found.append((merge[0], merge[1]))
    return found


def _check(base: Base, name: str) -> None:
    """Whether the parts fit together. Raises UserError."""
    vocab = base.vocab
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise UserError(f"base: {name}: ids are not 0 to {len(vocab) - 1}, each once")
    if absent := [b for b, name_ in enumerate(byte_names()) if name_ not in vocab]:
        raise UserError(
            f"base: {name}: no byte-level BPE: {len(absent)} bytes have no token (first: 0x{absent[0]:02X})"
        )
    for number, merge in enumerate(base.merges, 1):
        if any(part not in vocab for part in (*merge, "".join(merge))):
            raise UserError(f"base: {name}: merge {number} ({' '.join(merge)[:60]!r}) is not made of known tokens")
    if len(base.control) > _MAX_OTHERS:
        shown = ", ".join(base.control[:3])
        raise UserError(f"base: {name}: {len(base.control)} entries come from no merge ({shown}, ...); wrong merges?")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"base: {path}: damaged ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"base: {path}: damaged (no JSON object)")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"base: {path}: cannot be read ({error})") from None


def _fetch(name: str) -> dict[str, Path]:
    """The files of one commit of a repository, from the hub or from what was fetched before. Raises UserError."""
    from huggingface_hub import errors, hf_hub_download  # slow: 0.3 s, and needed here only
    from huggingface_hub.utils import httpx  # its own, whose errors are no OSErrors

    repository, _, revision = name.partition("@")
    place: dict[str, Any] = {"repo_id": repository, "revision": revision or None}
    found: dict[str, Path] = {}
    problem: Exception | None = None
    for file in FILES:
        try:
            there = hf_hub_download(**place, filename=file, dry_run=True)
            if (size := there.file_size or 0) > MAX_FILE_BYTES:
                raise UserError(f"base: {name}: {file} of {size / 1e6:.0f} MB is too much for a tokenizer")
            found[file] = Path(hf_hub_download(**place, filename=file))
        except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
            problem = error  # the hub is out of reach; what was fetched before may do
            place["local_files_only"] = True  # slow: asking again would take the hub's library 20 s a file
        except errors.RemoteEntryNotFoundError:
            continue
        except (errors.HfHubHTTPError, errors.HFValidationError, httpx.HTTPError, OSError) as error:
            raise UserError(f"base: {_explain(repository, revision, error)}") from None
    if len({path.parent for path in found.values()}) > 1:
        raise UserError(f"base: {name}: was changed on the hub while it was fetched; try again")
    if problem and not (FAST in found or VOCAB in found and MERGES in found):
        raise UserError(f"base: {_explain(repository, revision, problem)}")
    return found


def _explain(repository: str, revision: str, error: Exception) -> str:
    """What a failure of the hub means for the user."""
    from huggingface_hub import constants, errors

    login = "check the name; for a private one set HF_TOKEN or run `hf auth login`"
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} is gated: ask for access on {constants.ENDPOINT}/{repository}, and set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}; {constants.ENDPOINT}/{repository}/commits lists them"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{repository}: not on {constants.ENDPOINT}, or not for everyone, and no folder here; {login}"
    if constants.HF_HUB_OFFLINE:
        return f"{repository}: HF_HUB_OFFLINE is set and it was not fetched before; unset it, or name a folder"
    if isinstance(error, errors.LocalEntryNotFoundError | OSError):
        return f"{repository}: {constants.ENDPOINT} cannot be reached, and it was not fetched before; try again, or " \
               "name a folder with vocab.json and merges.txt; HF_ENDPOINT names a mirror"  # fmt: skip
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = f"status {status}" if status else f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return f"{repository}: {constants.ENDPOINT} did not give it ({said}); {login}"
