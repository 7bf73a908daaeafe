"""The one command line of all packages: `python -m PACKAGE [VERB] [ARGUMENT] CONFIG key=value ...`.

`python -m PACKAGE VERB WORD ... key=value ...` for verbs that read no file. A verb is a config dataclass and a function
of it; `--help` is made from their docstrings and fields, so it cannot go stale. What the user did wrong (UserError)
ends in one message and exit code 2, work that could not be finished (RunFailed, a full disk) in one and exit code 1;
anything else is our bug and keeps its traceback.
"""

from __future__ import annotations

import dataclasses
import errno
import inspect
import os
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mindllm.config import RunFailed, UserError, load


class Verb(NamedTuple):
    """A command: the dataclass its YAML is read into, and the function that does the work and returns the exit code.

    argument: name of a text field of `config` that the first word after the verb fills, whatever it holds.
    default_config: the config that is read where none is named, if that file exists.
    words: name of a list of texts in `config` ("runs"), for a verb that reads no file: it takes every word that is no
    key=value, at least one. A word with a / before its = is one of them, too: runs/lr=0.1 and ./lr=0.1 are folders.
    """

    config: type
    run: Callable[[Any], int | None]
    argument: str = ""
    default_config: str = ""
    words: str = ""
    config_file: bool = True  # False: a verb of key=value alone

    @property
    def usage(self) -> str:
        """What follows the verb on the command line."""
        if not self.config_file:
            return "key=value ..."
        if self.words:
            word = self.words.removesuffix("s").upper()
            return f"{word} [{word} ...] key=value ..."
        config = "[CONFIG.yaml]" if self.default_config else "CONFIG.yaml"
        return f"{self.argument.upper()} {config}".lstrip() + " key=value ..."


def main(program: str, verbs: Verb | dict[str, Verb], arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, load the config, run the verb; returns the exit code (0 done, 1 failed, 2 wrong use)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(program, verbs, words)
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f" ({error.filename})" if error.filename else ""
        print(f"{program}: {error.strerror}{place}; make room and run the same command again to go on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _dispatch(program: str, verbs: Verb | dict[str, Verb], words: list[str]) -> int:
    if isinstance(verbs, dict):
        if not words or words[0] in ("-h", "--help"):
            _print(_list_verbs(program, verbs))
            return 0 if words else 2
        name = words.pop(0)
        if name not in verbs:
            raise UserError(f"unknown verb {name!r}; there are {', '.join(verbs)}")
        verb, program = verbs[name], f"{program} {name}"
    else:
        verb = verbs
    if any(w in ("-h", "--help") for w in words):
        _print(_describe(program, verb))
        return 0
    flags = [w for w in words if w.startswith("-")]
    if flags:
        raise UserError(f"{flags[0]}: options are written key=value, without dashes; --help lists the keys")
    if verb.words:
        return verb.run(_load_words(program, verb, words)) or 0
    if not verb.config_file:
        if stray := [w for w in words if "=" not in w]:
            raise UserError(f"{stray[0]}: not a key=value: {program} {verb.usage}; --help lists the keys")
        return verb.run(load(verb.config, None, words)) or 0
    if verb.argument and not words:
        raise UserError(f"expected {verb.argument.upper()}: {program} {verb.usage}; --help lists the keys")
    given = [f"{verb.argument}={words.pop(0)}"] if verb.argument else []
    paths = [w for w in words if "=" not in w]
    if not paths and verb.default_config and Path(verb.default_config).exists():
        paths = [verb.default_config]
    if len(paths) != 1:
        raise UserError(
            f"expected one config file, got {len(paths)}: {program} {verb.usage}; --help lists the keys"
            + (f" (none named, and {verb.default_config} does not exist)" if verb.default_config and not paths else "")
        )
    return verb.run(load(verb.config, paths[0], [*given, *(w for w in words if "=" in w)])) or 0


def _load_words(program: str, verb: Verb, words: list[str]) -> Any:
    """The config of a verb that reads no file: its defaults, key=value, and the other words as they are."""
    keys = [w for w in words if "=" in w and "/" not in w.partition("=")[0]]
    if any(w.startswith(f"{verb.words}=") for w in keys):
        raise UserError(f"{verb.words}: written as words, without a key: {program} {verb.usage}")
    given = [w for w in words if w not in keys]
    if not given:
        raise UserError(f"expected {verb.usage.split()[0]}: {program} {verb.usage}; --help lists the keys")
    return dataclasses.replace(load(verb.config, None, keys), **{verb.words: given})


def _print(text: str) -> None:
    """Print help; a reader that has seen enough and closed the pipe (`| head`) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # what is left in the buffer goes nowhere, or the interpreter's last flush would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _list_verbs(program: str, verbs: dict[str, Verb]) -> str:
    width = max(map(len, verbs))
    lines = [f"  {name:{width}}  {_first_line(verb.run)}" for name, verb in verbs.items()]
    usages = [f"{program} {name} {verb.usage}" for name, verb in verbs.items() if verb.argument or verb.words]
    form = "WORDS" if all(verb.words for verb in verbs.values()) else "CONFIG.yaml"
    return "\n".join([f"{program} VERB {form} key=value ...   (VERB --help lists its keys)", *usages, *lines])


def _describe(program: str, verb: Verb) -> str:
    head = [
        f"{program} {verb.usage}",
        "",
        inspect.getdoc(verb.run) or "",
        "",
        inspect.getdoc(verb.config) or "",
        "",
        "keys:",
    ]
    if verb.default_config:
        head.insert(1, f"CONFIG.yaml is {verb.default_config} where none is named.")
    typed = verb.argument or verb.words  # no key of the user's
    keys = (line for line in _keys(verb.config, "") if not typed or not line.startswith(f"  {typed}:"))
    return "\n".join([*head, *keys])


def _keys(cls: type, prefix: str) -> typing.Iterator[str]:
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        hint = hints[f.name]
        if dataclasses.is_dataclass(hint):
            yield from _keys(typing.cast(type, hint), f"{prefix}{f.name}.")
            continue
        default = "(required)"
        if f.default is not dataclasses.MISSING:
            default = f"= {f.default!r}"
        elif f.default_factory is not dataclasses.MISSING:
            default = f"= {f.default_factory()!r}"
        name = (
            hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
        )
        yield f"  {prefix}{f.name}: {name} {default}"
        place = {list: "0.", dict: "NAME."}.get(typing.get_origin(hint), "")  # "": a section that may be absent
        for inner in filter(dataclasses.is_dataclass, typing.get_args(hint)):
            yield from _keys(typing.cast(type, inner), f"{prefix}{f.name}.{place}")


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").split("\n")[0]
