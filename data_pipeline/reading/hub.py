"""Data sets of the Hugging Face hub, and folders in such a layout: which files a config and a split are made of.

`datasets` knows that (patterns in README.md, names like train-00000-of-00002.parquet); the files are then read like any
others, here or behind hf:// URLs. Not by `datasets`: its reader of JSON gives up the rest of a file at a field that
comes late or changes its type, and takes a text that looks like a date for one. So no code of a data set runs, no cache
fills the disk, and there is one way to retry. The URLs hold the commit, so they always name the same content.
Cost: one listing of the data set. Memory: the names of its files.
"""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from data_pipeline.reading.addresses import scrub
from data_pipeline.reading.formats import UNKNOWN, expected
from data_pipeline.reading.input_shard import InputShard
from data_pipeline.sources import Source, evenly
from mindllm.config import UserError

HUB = "hf://datasets/"
_LOGIN = "for a private or gated one set HF_TOKEN in the environment, or run `hf auth login`"
_PARQUET = "the hub has most data sets as Parquet, too: path: hf://datasets/NAME@refs/convert/parquet/CONFIG/SPLIT"
_NO_COPY = "that is not taken; try again, and with another HF_HOME, an empty folder, to see why"
_SHOWN = 20  # names that a message lists


def list_dataset(name: str, source: Source) -> Iterator[InputShard]:
    """The shards of a source that is a data set, a file each: of `max_files`, evenly spaced ones.

    Their root is a URL with a commit, which stands in settings.revision, too; or a local folder, and no revision.
    Raises UserError for what is not there or cannot be had, with what there is.
    """
    where = f"sources.{name}"
    base, settings = _locate(where, source)
    found = [_below(base, file, where) for file in _files(where, base, source)]
    unknown = [file for file in found if expected(file) == UNKNOWN]
    if unknown:
        raise UserError(f"{where}.dataset: {source.dataset} has files that are not read ({unknown[0]}); {_PARQUET}")
    folder = posixpath.commonpath([posixpath.dirname(file) for file in found])  # for short ids, still all different
    root = posixpath.join(base, folder) if folder else base
    for number, file in enumerate(evenly(found, source.max_files)):
        yield InputShard(
            f"{name}-{number:05d}", (posixpath.relpath(file, folder or "."),), name, root, settings=settings
        )


def _locate(where: str, source: Source) -> tuple[str, Source]:
    """Where the files of a data set lie (a folder, or hf://datasets/owner/name@commit); the source with its commit."""
    path = Path(source.dataset).expanduser()
    if path.is_dir():
        if source.revision:
            raise UserError(f"{where}.revision: {source.dataset} is a folder, which has none; take it out")
        return path.resolve().as_posix(), source
    if source.dataset.count("/") > 1 or source.dataset.startswith((".", "/", "~")):
        raise UserError(f"{where}.dataset: {source.dataset} is no folder; a data set of the hub is called owner/name")
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(source.dataset, revision=source.revision or None, timeout=60)
    except Exception as error:  # the library has many
        raise UserError(_explain(where, source, error)) from error
    return f"{HUB}{info.id}@{info.sha}", replace(source, revision=str(info.sha))


def _files(where: str, base: str, source: Source) -> list[str]:
    """All files of the source's config and split, sorted by the patterns that name them."""
    import datasets
    from datasets.exceptions import DataFilesNotFoundError

    datasets.disable_progress_bars()
    path, _, commit = base.rpartition("@") if base.startswith(HUB) else (base, "", "")
    try:
        builder = datasets.load_dataset_builder(path, source.config_name or None, revision=commit or None)
        splits = builder.config.data_files  # None: a copy in the cache, of any revision, taken where the hub fails
    except Exception as error:  # whatever a data set that others made can bring about
        names = _config_names(path, commit) if not isinstance(error, OSError | DataFilesNotFoundError) else []
        if names and source.config_name not in names:
            raise UserError(f"{where}.config_name: {_choose(source.config_name, names, source)}") from None
        raise UserError(_explain(where, source, error)) from error
    if not splits:
        raise UserError(f"{where}.dataset: {source.dataset}: nothing came from the hub but an old copy; {_NO_COPY}")
    if source.split not in splits:
        raise UserError(f"{where}.split: {_choose(source.split, splits, source)}")
    return list(splits[source.split])


def _config_names(path: str, commit: str) -> list[str]:
    import datasets

    try:
        return list(datasets.get_dataset_config_names(path, revision=commit or None))
    except Exception:  # then the first error says it
        return []


def _below(base: str, file: str, where: str) -> str:
    """The file's name below `base`: a README may name any file and URL, but nothing else is pinned, or its business."""
    name = posixpath.normpath(file.removeprefix(base + "/"))
    if not file.startswith(base + "/") or name.startswith((".", "/")) or "::" in name:
        raise UserError(f"{where}.dataset: it names a file that lies elsewhere, or inside of another: {file[:200]}")
    return name


def _choose(name: str, names: Iterable[str], source: Source) -> str:
    """What to say of a config or split that is not there."""
    names = sorted(map(str, names))  # splits of a set without a README are no plain text
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    said = f"{name!r} is none of those" if name else "must be one of those"
    return f"{said} of {source.dataset}: {', '.join(names[:_SHOWN])}{more}{hint}"


def _explain(where: str, source: Source, error: Exception) -> str:
    """What a failure of the libraries means for the user, without queries, which may be signed, of URLs."""
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx  # its own, whose errors are no OSErrors

    name = f"{where}.dataset: {source.dataset}"
    page = f"{constants.ENDPOINT}/datasets/{source.dataset}"
    causes = [error, *(e for e in (error.__cause__, error.__context__) if e)]
    statuses = {getattr(getattr(e, "response", None), "status_code", 0) for e in causes}
    said = str(error).partition(" with any supported extension")[0]  # a hundred of them
    text = scrub(" ".join(f"{type(error).__name__}: {said}".split()))[:500]
    if any(isinstance(e, errors.GatedRepoError) for e in causes) or "is a gated dataset" in text:
        return f"{name} is gated: ask for access on {page}, and set HF_TOKEN or run `hf auth login`"
    if any(isinstance(e, errors.RevisionNotFoundError) for e in causes):
        return f"{where}.revision: {source.dataset} has no {source.revision!r}; {page}/commits lists them"
    if any(isinstance(e, errors.RepositoryNotFoundError) for e in causes) or 404 in statuses:
        return f"{name}: not on {constants.ENDPOINT}, or not for everyone, and no folder here; {_LOGIN}"
    if any(isinstance(e, errors.OfflineModeIsEnabled) for e in causes):
        return f"{name}: HF_HUB_OFFLINE is set; unset it, or name a folder that holds the data set"
    if statuses & {401, 403}:
        return f"{name}: {constants.ENDPOINT} does not let you in ({text}); {_LOGIN}"
    is_local = isinstance(error, FileNotFoundError) or Path(source.dataset).expanduser().is_dir()
    if (
        isinstance(error, errors.LocalEntryNotFoundError)
        or isinstance(error, OSError | httpx.HTTPError)
        and not is_local
    ):
        return f"{name}: {constants.ENDPOINT} cannot be reached ({text}); try again; HF_ENDPOINT names a mirror"
    if "scripts are no longer supported" in text:
        return f"{name} is made by a program, which is not run; {_PARQUET}"
    return f"{name}: {text}"
