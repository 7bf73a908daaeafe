"""Which benchmarks there are, where their data comes from, and which of them cannot be had.

Tasks below `include_path` come first, lm-eval's own (8 s to list) only where a name needs them; with nothing but tasks
whose data are local files a run never touches the network. A task whose data or packages are missing is left out and
named with the reason, one by one, so that one dead address does not end an evaluation of two hundred tasks. Task
folders may name Python functions that lm-eval runs: `include_path` must be a folder you trust. Cost: the data of all
tasks named, in memory or mapped from files.
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from eval.exported import hash_bytes
from eval.harness.quiet import hub_switch
from mindllm.config import UserError
from mindllm.stage import hash_json, read_json

_FUNCTION = re.compile(r"!function\s+")
_LOCAL_READERS = ("json", "csv", "parquet", "text", "arrow")  # data sets that `dataset_kwargs.data_files` names
_DATA_PACKAGES = ("datasets", "huggingface_hub", "httpx", "requests", "urllib3", "fsspec", "aiohttp")
_MAX_REASON = 200  # characters of a library's message


@dataclass(frozen=True)
class Needs:
    """What the tasks named need. stock: lm-eval's own tasks.  hub: data (or code) that may lie on the hub."""

    stock: bool
    hub: bool


@dataclass
class Absent:
    """Stands in a group for a task that cannot be had; lm-eval's groups pass over it, we count it."""

    task_name: str
    why: str


@dataclass
class Loaded:
    """What lm-eval has loaded: `tasks` by name, `groups` by name (tags too), and what is missing."""

    tasks: dict[str, Any]
    groups: dict[str, Any]
    missing: list[Absent] = field(default_factory=list)


def hash_tasks(folder: str | Path) -> str:
    """One hash over the names and contents of all files below `folder`, and of the rows that `import` wrote beside it.

    slow: reads all of them, 64 MB for the fifteen benchmarks.
    """
    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    names = [p.relative_to(folder).as_posix() for p in paths]
    rows = [p for beside in _sets_beside(folder) for p in sorted(beside.glob("*.jsonl"))]
    names += [f"../{p.parent.name}/{p.name}" for p in rows]
    return hash_json([f"{name} {hash_bytes(p)}" for name, p in zip(names, [*paths, *rows], strict=True)])


def _sets_beside(folder: Path) -> Iterator[Path]:
    """Where the rows of imported tasks lie, ../<set>/; other stages may have folders there, too."""
    for path in sorted(folder.resolve().parent.glob("*/meta.json")):
        if "set" in (read_json(path) or {}):
            yield path.parent


def needs(names: list[str], folder: str | Path) -> Needs:
    """What these names need, found by following groups, tags and patterns through the YAML files below `folder`."""
    definitions: dict[str, list[dict[str, Any]]] = {}
    for definition in _definitions(folder):
        for name in _names(definition):
            definitions.setdefault(name, []).append(definition)
    waiting, seen, hub = list(names), set(), False
    while waiting:
        name = waiting.pop()
        found = [n for n in definitions if fnmatchcase(n, name)]
        if not found:
            return Needs(stock=True, hub=True)
        for own in [n for n in found if n not in seen]:
            seen.add(own)
            for definition in definitions[own]:
                if "group" in definition:
                    waiting.extend(_members(definition))
                else:
                    hub = hub or not _is_local(definition)
    return Needs(stock=False, hub=hub)


def _definitions(folder: str | Path) -> Iterator[dict[str, Any]]:
    """The YAML files below `folder` as mappings, what they include merged in. Raises UserError for what is no YAML.

    Read without lm-eval, because the libraries below it look at the environment (offline or not) when first imported.
    """
    for path in sorted(Path(folder).rglob("*.yaml")):
        definition = _read_definition(path, ())
        if _names(definition):
            yield definition


def _read_definition(path: Path, including: tuple[Path, ...]) -> dict[str, Any]:
    """One file with its includes; functions are left as their names, so nothing is run."""
    if path in including:
        raise UserError(f"{path}: includes itself")
    try:
        found = yaml.safe_load(_FUNCTION.sub("", path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as a task ({error})") from None
    if not isinstance(found, dict):
        return {}
    included = found.pop("include", [])
    merged: dict[str, Any] = {}
    for name in included if isinstance(included, list) else [included]:
        merged |= _read_definition(path.parent / str(name), (*including, path))
    return merged | found


def _names(definition: dict[str, Any]) -> list[str]:
    """What a YAML file can be asked for as: its task or group, and its tags."""
    tags = definition.get("tag") or []
    own = definition["group"] if "group" in definition else definition.get("task")
    return [n for n in [own, *(tags if isinstance(tags, list) else [tags])] if isinstance(n, str)]


def _members(definition: dict[str, Any]) -> Iterator[str]:
    """Names that a group lists; one written out inside the group is its own definition and needs no name."""
    listed = definition.get("task") or []
    for member in listed if isinstance(listed, list) else [listed]:
        if isinstance(member, dict) and isinstance(member.get("task"), list):
            yield from _members(member)
        else:
            yield str(member.get("task") or member.get("group") if isinstance(member, dict) else member)


def _is_local(definition: dict[str, Any]) -> bool:
    """Whether a task says that its data are files: a reader of files, and no address among them."""
    files = str((definition.get("dataset_kwargs") or {}).get("data_files", ""))
    return definition.get("dataset_path") in _LOCAL_READERS and "://" not in files and "class" not in definition


def find_tasks(names: list[str], include_path: str, stock: bool) -> Any:
    """lm-eval's task manager: our tasks and, if `stock`, its own. Raises UserError with the nearest known name."""
    from lm_eval.tasks import TaskManager  # slow: 1 s, so not at the top

    manager = TaskManager(include_path=include_path, include_defaults=stock)  # slow: 8 s with its own
    unknown = [name for name in names if not manager.match_tasks([name])]
    if unknown:
        near = difflib.get_close_matches(unknown[0], manager.all_tasks, 1)
        raise UserError(f"tasks: unknown task {', '.join(unknown)}{f'; did you mean {near[0]}?' if near else ''}")
    return manager


def load_tasks(names: list[str], manager: Any) -> Loaded:
    """Load every task named, patterns and tags resolved, each with its data; those that cannot be had are `missing`.

    Once the hub could not be reached, only its cache is asked: each further question would wait half a minute.
    Raises UserError for a task named twice, by whatever way.
    """
    loaded = Loaded({}, {})
    with hub_switch() as close_hub, _tolerant(manager, loaded.missing, close_hub):
        for name in dict.fromkeys(found for pattern in names for found in manager.match_tasks([pattern])):
            tag = _tag(name, manager)
            spec = manager.load([name] if tag is None else [tag])
            twice = sorted(loaded.tasks.keys() & spec["tasks"].keys())
            if twice:
                raise UserError(f"tasks: {twice[0]} is named twice, once as part of {name}; name it once")
            loaded.tasks |= {n: task for n, task in spec["tasks"].items() if not isinstance(task, Absent)}
            loaded.groups |= spec["groups"]
    for group in loaded.groups.values():  # `import` notes there which benchmarks it has not found
        noted = (group.metadata or {}).get("missing") or []
        loaded.missing += [Absent(str(entry["task"]), str(entry["why"])) for entry in noted]
    return loaded


def _tag(name: str, manager: Any) -> Any:
    """lm-eval only lists the tasks of a tag; ours is a group of them, so that it gets a row. None for what is no tag.

    Its common scores are of the metrics that all of its tasks have and that are means over items.
    """
    from lm_eval.api.group import AggMetricConfig, Group
    from lm_eval.api.metrics import mean

    if name not in manager.all_tags:
        return None
    group = Group(name)
    for task in manager._factory.build(manager.task_index[name], registry=manager.task_index):
        group.add(task)
    found = [{m for m, total in task.aggregation().items() if total is mean} for task in group.get_all_tasks()]
    common = set.intersection(*found) if found else set()
    group.aggregate_metric_list = [AggMetricConfig(metric) for metric in sorted(common)]
    return group


class _tolerant:
    """While the block runs, the manager puts an `Absent` where a task cannot be had, and notes it in `missing`."""

    def __init__(self, manager: Any, missing: list[Absent], close_hub: Any):
        self.factory, self.missing, self.close_hub = manager._factory, missing, close_hub
        self.is_reachable = True

    def __enter__(self) -> None:
        build = self.factory._build_task

        def build_or_note(entry: Any, overrides: Any) -> Any:
            try:
                return build(entry, overrides)
            except Exception as error:
                why = why_missing(error)
                if why is None:
                    raise
                self.missing.append(Absent((overrides or {}).get("task", entry.name), why))
                if self.is_reachable and is_unreachable(error):
                    self.is_reachable = False
                    print("harness: the hub cannot be reached; from here on only what it has sent before", flush=True)
                    self.close_hub()
                return self.missing[-1]

        self.factory._build_task = build_or_note

    def __exit__(self, *_: object) -> None:
        del self.factory._build_task  # the method of its class again


def why_missing(error: BaseException) -> str | None:
    """One line that says what cannot be had, or None for an error that is no question of missing data or packages."""
    text = " ".join(str(error).split())[:_MAX_REASON]
    if isinstance(error, ModuleNotFoundError):
        return f"needs the Python package {error.name}"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} does not exist"
    classes = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    frames = traceback.extract_tb(error.__traceback__)
    raised_in = set(Path(frames[-1].filename).parts) if frames else set()
    if isinstance(error, OSError) or classes & set(_DATA_PACKAGES) or raised_in & set(_DATA_PACKAGES):
        return f"{type(error).__name__}: {text}"
    return None


def is_unreachable(error: BaseException) -> bool:
    """Whether the network is at fault, not the address: asking for the next data set would fail in the same way."""
    return isinstance(error, ConnectionError) and "OfflineModeIsEnabled" not in str(error)
