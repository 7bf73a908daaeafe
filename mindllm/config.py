"""Typed configuration: one YAML file and `key=value` overrides become one dataclass, or one list of every problem.

Why not a library: the config dataclasses are the documentation of this project (key = field = override), so the loader
has to name the nearest key, collect all problems, and keep mistakes from passing silently (`1e-3` is a float here, a
key given twice is an error). Values and defaults may hold `{run}`, which stands for the value of the top-level key
`run`, its default included. Costs nothing: a few ms.
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
    """Something the user typed or handed in is wrong: says what, where, the way out. Exit code 2, no traceback."""


class RunFailed(RuntimeError):
    """The work could not be finished, and the message says all there is to know. Exit code 1, no traceback."""


class Override(str):
    """The text right of `=` in `key=value`: read as YAML unless the field is a string."""


class _Loader(yaml.SafeLoader):
    """Safe YAML for configs: 1e-3 is a number (YAML 1.1 says text), keys are text given once, values are JSON's."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node; an alias is refused, for aliases can make a value that contains itself, or grows without bound."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="no aliases (*name) here: write the value out", problem_mark=mark)
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$|^[-+]?(\d[\d_]*\.\d*|\.\d+)$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    """Keys are text as it is written (so `2024` and `no` are names, too), and each may be given once."""
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, mark = key_node.value, key_node.start_mark
        if not isinstance(key, str) or key_node.tag == "tag:yaml.org,2002:merge":
            raise yaml.MarkedYAMLError(problem="a key has to be plain text", problem_mark=mark)
        if key in values:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=mark)
        values[key] = loader.construct_object(value_node, deep=True)
    return values


_NOT_JSON = {f"tag:yaml.org,2002:{name}" for name in ("binary", "omap", "pairs", "set")}
_Loader.yaml_constructors = {k: v for k, v in yaml.SafeLoader.yaml_constructors.items() if k not in _NOT_JSON}
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: str(node.value))  # a date is text


def read_yaml(text: str) -> Any:
    """Parse YAML text safely (no tags that build objects). Raises yaml.YAMLError."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader subclass
    except (ValueError, LookupError, OverflowError, RecursionError) as error:  # 0x_, !!bool maybe, [[[[...
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None


def load(cls: type[T], path: str | Path | None, overrides: Iterable[str] = ()) -> T:
    """Read `path` (None: defaults only), apply `a.b=value` overrides, return a checked instance of the dataclass `cls`.

    Raises UserError with all problems at once: unknown keys (with the nearest known one), wrong types, missing keys,
    and whatever the dataclass's own `problems()` method reports.
    """
    values = read_mapping(path) if path is not None else {}
    problems: list[str] = []
    for override in overrides:
        _apply(values, override, problems)
    run = _run_folder(cls, values, problems)
    result = parse(cls, _substitute(values, run), problems, run=run)
    if problems:
        raise UserError(
            f"{path or 'configuration'}: {len(problems)} problem(s)\n" + "\n".join(f"  {p}" for p in problems)
        )
    assert result is not None, "parse returned nothing without naming a problem"
    return result


def parse(cls: type[T], values: Any, problems: list[str], where: str = "", run: str = "") -> T | None:
    """Build the dataclass `cls` from a mapping; append every problem to `problems` and return None if there was one.

    `where` goes before the keys in messages ("train."); `run`, if any, stands for {run} in defaults (values: see load).
    """
    before = len(problems)
    result = _build(cls, values, problems, where, run)
    return result if len(problems) == before else None


def _build(cls: type[T], values: Any, problems: list[str], where: str, run: str) -> T | None:
    """`parse` that gives the instance even where there were problems, with defaults for the wrong values, if it can."""
    if not isinstance(values, Mapping):
        problems.append(f"{where.rstrip('.') or 'top level'}: expected keys and values, got {_show(values)}")
        return None
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            problems.append(f"{where}{key}: unknown key{_nearest(str(key), fields)}")
    found: dict[str, Any] = {}
    for name, f in fields.items():
        known, default = len(problems), _default(f)
        if name in values:
            found[name] = _convert(hints[name], values[name], f"{where}{name}", problems, run)
        elif default is dataclasses.MISSING:
            problems.append(f"{where}{name}: missing ({_type_name(hints[name])})")
        wrong = len(problems) > known and not dataclasses.is_dataclass(found.get(name))
        if name not in values or wrong:  # in place of a wrong value, so that the others are checked too
            found[name] = default if default is dataclasses.MISSING else _substitute(default, run)
    if dataclasses.MISSING in found.values():
        return None
    result = cls(**found)
    own = getattr(result, "problems", None)
    if callable(own):
        problems.extend(f"{where}{p}" for p in own())
    return result


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file. Raises UserError, naming the nearest config for one that is not there."""
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
        elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        else:
            problems.append(f"{override}: {part!r} is not a place inside {path!r}")
            return
    if isinstance(node, dict):
        node[last] = Override(text)
    elif isinstance(node, list) and last.isdecimal() and int(last) < len(node):
        node[int(last)] = Override(text)
    else:
        problems.append(f"{override}: {last!r} is not a place inside {path!r}")


def _run_folder(cls: type, values: Mapping[str, Any], problems: list[str]) -> str:
    """What {run} stands for: the key `run`, else its default, else "" (nothing)."""
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    run = values.get("run", defaults.get("run"))
    if "run" not in defaults or not isinstance(run, str):  # no such key, or a wrong type, which parse reports
        return ""
    if not run or "{run}" in run:
        problems.append(f"run: {str(run)!r} is no folder name")
        return ""
    return str(run)


def _default(f: dataclasses.Field[Any]) -> Any:
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()


def _substitute(value: Any, run: str) -> Any:
    """`value` with {run} filled in, in strings, lists, dicts and dataclasses of them; as it is when there is no run."""
    if not run:
        return value
    if isinstance(value, str):
        return type(value)(value.replace("{run}", run))  # an Override stays one
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        old = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **_substitute(old, run))
    if isinstance(value, dict):
        return {k: _substitute(v, run) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, run) for v in value]
    return value


def _convert(hint: Any, value: Any, where: str, problems: list[str], run: str) -> Any:
    """`value` as the annotated type, or a problem. Scalars, Literal, X | None, list[X], dict[str, X], dataclasses."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where, problems, run)
    if hint is str and isinstance(value, Override):
        return str(value)
    if hint is Any:
        return _plain(value)
    if isinstance(value, Override):
        value = _plain(value)
    if origin is Literal:
        good = any(value == a and type(value) is type(a) for a in arguments)  # True is not 1 here
        return _check(good, value, where, problems, f"one of {', '.join(map(str, arguments))}")
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, problems, f"{where}.", run)
    if origin is list and isinstance(value, list):
        return [_convert(arguments[0], v, f"{where}.{i}", problems, run) for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {k: _convert(arguments[1], v, f"{where}.{k}", problems, run) for k, v in value.items()}
    if hint is float and type(value) is int and abs(value) < 1 << 1023:
        return float(value)
    good = isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    return _check(good, value, where, problems, _type_name(hint))


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str, problems: list[str], run: str) -> Any:
    """The first type that fits; the text of an override is null before it is a string."""
    if type(None) in arguments and (value is None or isinstance(value, Override) and _plain(value) is None):
        return None
    options = [a for a in arguments if a is not type(None)]
    if len(options) > 1 and all(map(dataclasses.is_dataclass, options)):
        return _convert_kind(options, _plain(value) if isinstance(value, Override) else value, where, problems, run)
    attempts: list[list[str]] = []
    for option in options:
        attempt: list[str] = []
        result = _convert(option, value, where, attempt, run)
        if not attempt:
            return result
        attempts.append(attempt)
    if len(options) == 1:
        problems.extend(attempts[0])
    else:
        problems.append(f"{where}: expected {' or '.join(_type_name(a) for a in arguments)}, got {_show(value)}")
    return None


def _convert_kind(kinds: list[Any], value: Any, where: str, problems: list[str], run: str) -> Any:
    """One of several dataclasses; a literal field of all (`model_type`) tells them apart, and the first is default."""
    hints = {kind: typing.get_type_hints(kind) for kind in kinds}
    name = next(n for n, hint in hints[kinds[0]].items() if typing.get_origin(hint) is Literal)
    by_name = {str(n): kind for kind in kinds for n in typing.get_args(hints[kind][name])}
    given = _plain(value[name]) if isinstance(value, Mapping) and name in value else next(iter(by_name))
    if isinstance(given, str) and given in by_name:
        return _build(by_name[given], value, problems, f"{where}.", run)
    return _check(False, given, f"{where}.{name}", problems, f"one of {', '.join(by_name)}")


def _plain(value: Any) -> Any:
    """`value` with the text of overrides, at any depth, read as YAML (as a string where it is none)."""
    if isinstance(value, Override):
        try:
            return read_yaml(value)
        except yaml.YAMLError:
            return str(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _check(good: bool, value: Any, where: str, problems: list[str], expected: str) -> Any:
    if not good:
        problems.append(f"{where}: expected {expected}, got {_show(value)}")
    return value


def _nearest(key: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(key, known, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def _type_name(hint: Any) -> str:
    named = isinstance(hint, type) and typing.get_origin(hint) is None
    return hint.__name__ if named else str(hint).replace("typing.", "")


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes out no int of more than 4300 digits
        text = "of too many digits"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
