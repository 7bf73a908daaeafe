"""Typed configuration: one YAML file and `key=value` overrides become one dataclass, or one message that lists every problem.

Why not a library: the config dataclasses are the documentation of this project (key = field = override), so the loader has
to name the nearest key, collect all problems, and keep mistakes from passing silently (`1e-3` is a float here, a key given
twice is an error). Values may hold `{run}`, which stands for the value of the top-level key `run`. Costs nothing: a few ms.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

T = TypeVar("T")


class UserError(ValueError):
    """Something the user typed or handed in is wrong: says what, where, and the way out. Ends with exit code 2, no traceback."""


class Override(str):
    """The text right of `=` in `key=value`: read as YAML unless the field is a string."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads 1e-3 as a number (YAML 1.1 would make it a string)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$|^[-+]?(\d[\d_]*\.\d*|\.\d+)$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)


def read_yaml(text: str) -> Any:
    """Parse YAML text safely (no tags that build objects). Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader subclass


def load(cls: type[T], path: str | Path | None, overrides: Iterable[str] = ()) -> T:
    """Read `path` (None: defaults only), apply `a.b=value` overrides, return a checked instance of the dataclass `cls`.

    Raises UserError with all problems at once: unknown keys (with the nearest known one), wrong types, missing keys, and
    whatever the dataclass's own `problems()` method reports.
    """
    values = _read_file(path) if path is not None else {}
    problems: list[str] = []
    for override in overrides:
        _apply(values, override, problems)
    if isinstance(values.get("run"), str):
        values = _substitute(values, str(values["run"]))
    result = parse(cls, values, problems)
    if problems:
        raise UserError(
            f"{path or 'configuration'}: {len(problems)} problem(s)\n" + "\n".join(f"  {p}" for p in problems)
        )
    assert result is not None, "parse returned nothing without naming a problem"
    return result


def parse(cls: type[T], values: Any, problems: list[str], where: str = "") -> T | None:
    """Build the dataclass `cls` from a mapping; append every problem to `problems` and return None if there was one."""
    before = len(problems)
    if not isinstance(values, Mapping):
        problems.append(f"{where or 'top level'}: expected keys and values, got {_show(values)}")
        return None
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            problems.append(f"{where}{key}: unknown key{_nearest(str(key), fields)}")
    found = {k: _convert(hints[k], values[k], f"{where}{k}", problems) for k in fields if k in values}
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            problems.append(f"{where}{name}: missing (a {_type_name(hints[name])})")
    if len(problems) > before:
        return None
    result = cls(**found)
    own = getattr(result, "problems", None)
    if callable(own):
        problems.extend(f"{where}{p}" for p in own())
    return result if len(problems) == before else None


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain nested dicts and lists (what goes into config.yaml and meta.json)."""
    return dataclasses.asdict(config)


def _read_file(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(str(path), [str(p) for p in Path("configs").rglob("*.yaml")], 1)
        raise UserError(f"{path}: no such config file{f'; did you mean {near[0]}?' if near else ''}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a UTF-8 text file ({error})") from None
    try:
        values = read_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `key: value` lines at the top, got {_show(values)}")
    return values


def _apply(values: dict[str, Any], override: str, problems: list[str]) -> None:
    """Set a.b=c inside `values`; a number in the path is an index into a list."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        problems.append(f"{override}: expected key=value")
        return
    *parents, last = path.split(".")
    node: Any = values
    for part in parents:
        if isinstance(node, dict):
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            problems.append(f"{override}: {part!r} is not a place inside {path!r}")
            return
    if isinstance(node, dict):
        node[last] = Override(text)
    elif isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = Override(text)
    else:
        problems.append(f"{override}: {last!r} is not a place inside {path!r}")


def _substitute(value: Any, run: str) -> Any:
    if isinstance(value, Override):
        return Override(value.replace("{run}", run))
    if isinstance(value, str):
        return value.replace("{run}", run)
    if isinstance(value, dict):
        return {k: _substitute(v, run) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, run) for v in value]
    return value


def _convert(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    """`value` as the annotated type, or a problem. Handles scalars, Literal, X | None, list[X], dict[str, X], dataclasses."""
    if isinstance(value, Override):
        if hint is str:
            return str(value)
        try:
            value = read_yaml(value)
        except yaml.YAMLError:
            value = str(value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where, problems)
    if origin is Literal:
        return _check(value in arguments, value, where, problems, f"one of {', '.join(map(str, arguments))}")
    if dataclasses.is_dataclass(hint):
        return parse(typing.cast(type, hint), value, problems, f"{where}.")
    if origin is list and isinstance(value, list):
        return [_convert(arguments[0], v, f"{where}.{i}", problems) for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {str(k): _convert(arguments[1], v, f"{where}.{k}", problems) for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    fits = (
        isinstance(value, hint) and not (hint is int and isinstance(value, bool)) if isinstance(hint, type) else False
    )
    return _check(fits, value, where, problems, f"a {_type_name(hint)}")


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str, problems: list[str]) -> Any:
    if value is None and type(None) in arguments:
        return None
    options = [a for a in arguments if a is not type(None)]
    attempts: list[list[str]] = []
    for option in options:
        attempt: list[str] = []
        result = _convert(option, value, where, attempt)
        if not attempt:
            return result
        attempts.append(attempt)
    if len(options) == 1:
        problems.extend(attempts[0])
    else:
        problems.append(f"{where}: expected {' or '.join(_type_name(a) for a in arguments)}, got {_show(value)}")
    return None


def _check(good: bool, value: Any, where: str, problems: list[str], expected: str) -> Any:
    if not good:
        problems.append(f"{where}: expected {expected}, got {_show(value)}")
    return value


def _nearest(key: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(key, known, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def _type_name(hint: Any) -> str:
    return (
        hint.__name__
        if isinstance(hint, type) and typing.get_origin(hint) is None
        else str(hint).replace("typing.", "")
    )


def _show(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
