"""The answers that are compared: read from one JSON Lines file a model, or written by exported models.

A model is given the prompt as text that it goes on with, or as a user's message in its chat template (`chat`), in which
no part of a prompt counts as a control token. Texts depend on the seed and their own prompt alone. Answers are kept in
parts of 64, so a killed run goes on. Cost: one small forward pass a token, batch_size prompts at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from eval.exported import hash_bytes, hash_model
from eval.rows import read_rows, write_rows
from mindllm.config import UserError
from mindllm.generate import Settings, Writer, generate, open_model
from mindllm.generate.tokens import context_size
from mindllm.stage import Stage

PART = 64  # prompts


@dataclass
class Answerer:
    """An exported model that answers the prompts. chat: give them as a user's message in the model's chat template."""

    folder: str
    chat: bool = False


class Answers(NamedTuple):
    """prompts: text by id.  texts: by model, answer by prompt id; a model need not have answered all."""

    prompts: dict[str, str]
    texts: dict[str, dict[str, str]]


def read_prompts(path: str | Path) -> dict[str, str]:
    """Prompts by id of a file with rows {"id", "prompt"}. Raises UserError for rows that are not, or come twice."""
    if not Path(path).is_file():
        raise UserError(f'prompts: {path}: no such file; one line a prompt, {{"id": "1", "prompt": "..."}}')
    prompts: dict[str, str] = {}
    for number, row in read_rows(path, ("id", "prompt")):
        if row["id"] in prompts:
            raise UserError(f"{path}:{number}: id {row['id']!r} comes twice")
        if not row["prompt"].strip():
            raise UserError(f"{path}:{number}: the prompt is empty")
        prompts[row["id"]] = row["prompt"]
    if not prompts:
        raise UserError(f"{path}: holds no prompts")
    return prompts


def list_answers(folder: str | Path) -> dict[str, Path]:
    """Model name -> its file NAME.jsonl in a folder. Raises UserError where there are none."""
    found = {path.stem: path for path in sorted(Path(folder).glob("*.jsonl")) if not path.name.startswith(".")}
    if not found:
        raise UserError(f'answers: {folder} holds no NAME.jsonl with rows {{"id", "prompt", "answer"}}')
    return found


def read_answers(paths: Mapping[str, Path]) -> Answers:
    """The files of all models, rows {"id", "prompt", "answer"}.

    Raises UserError for a damaged row, an id that comes twice, and an id that has another prompt in another file.
    """
    prompts: dict[str, str] = {}
    texts: dict[str, dict[str, str]] = {}
    for name, path in paths.items():
        own = texts.setdefault(name, {})
        for number, row in read_rows(path, ("id", "prompt", "answer")):
            if row["id"] in own:
                raise UserError(f"{path}:{number}: id {row['id']!r} comes twice")
            if prompts.setdefault(row["id"], row["prompt"]) != row["prompt"]:
                raise UserError(f"{path}:{number}: id {row['id']!r} has another prompt in the file of another model")
            own[row["id"]] = row["answer"]
    return Answers(prompts, texts)


def write_answers(folder: Path, model: Answerer, prompts_path: str, settings: Settings, force: bool) -> Path:
    """The file with a model's answers to all prompts; made, or continued, where it is not there yet.

    Raises UserError for a prompt that leaves no room in the model's context, before any is answered.
    """
    drawn = {k: getattr(settings, k) for k in ("max_new_tokens", "temperature", "top_k", "seed")}
    inputs = {"model": hash_model(model.folder), "prompts": hash_bytes(prompts_path)}
    stage = Stage(folder, "answers", {**drawn, "chat": model.chat}, inputs)
    path = folder / "answers.jsonl"
    if not stage.start(force):
        return path
    prompts = list(read_prompts(prompts_path).items())
    parts = [folder / "parts" / f"{start // PART:05}.jsonl" for start in range(0, len(prompts), PART)]
    answer = None
    for number, part in enumerate(parts):
        if not part.exists():
            if answer is None:
                answer = Model(model, settings)
                answer.check(dict(prompts), prompts_path)
            asked = prompts[number * PART : (number + 1) * PART]
            texts = answer([text for _, text in asked])
            write_rows(part, [{"id": i, "prompt": p, "answer": t} for (i, p), t in zip(asked, texts, strict=True)])
            print(f"{folder.name}: {min((number + 1) * PART, len(prompts))} of {len(prompts)} prompts", flush=True)
    write_rows(path, _joined(parts))
    stage.finish(**{"in": len(prompts), "out": len(prompts), "unit": "prompts"})
    return path


def _joined(parts: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for part in parts:
        for _, row in read_rows(part, ("id", "prompt", "answer")):
            yield row


class Model:
    """An exported model that is open, and answers prompts. slow: reads the weights."""

    def __init__(self, model: Answerer, settings: Settings):
        if problems := list(settings.problems()):
            raise UserError("\n".join(problems))
        self._folder, self._settings = model.folder, settings
        self._model, self._vocabulary = open_model(model.folder)
        self._message = None
        if model.chat:
            from mindllm.hf.messages import open_messages  # here, so that --help does not wait for transformers

            self._message = open_messages(model.folder)

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """The text after each prompt; half a character at a limit is left out."""
        words, texts = self._vocabulary, []
        for written in generate(self._model, self._encode(prompts), self._settings, words.ends, len(words.tokens)):
            writer = Writer()
            text = "".join(writer.add(words.tokens[token]) for token in written.ids)
            texts.append(text + (writer.add(b"", last=True) if written.reason == "end" else writer.cut_off()))
        return texts

    def check(self, prompts: Mapping[str, str], where: str) -> None:
        """Raises UserError for a prompt (by id; they are from the file `where`) that leaves no room for an answer."""
        limit = context_size(self._model)
        for name, ids in zip(prompts, self._encode(list(prompts.values())), strict=True):
            if len(ids) >= limit:
                reads = f"{self._folder} reads {limit:,}, the answer included"
                raise UserError(f"{where}: prompt {name!r} has {len(ids):,} tokens; {reads}")

    def _encode(self, prompts: Sequence[str]) -> list[list[int]]:
        if self._message is not None:
            return [self._message(prompt) for prompt in prompts]
        words = self._vocabulary
        return [[words.start, *found.tolist()] for found in words.encode(prompts)]
