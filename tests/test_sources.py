"""Source: where documents come from is said once, what differs in cleaning is merged and checked before any work."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.config import DataConfig
from data_pipeline.sources import Overrides, Source, merge, subset_name

LISTS: dict[str, Any] = {"html": None, "density": {"min_han": 100, "min_words": 100}}


def problems(**source: Any) -> list[str]:
    return list(DataConfig({"pile": Source(**source)}, LISTS, {"pii": None}).problems())


@pytest.mark.parametrize("given_keys", [{}, {"path": "a", "dataset": "b"}, {"path": "a", "paths": "b", "dataset": "c"}])
def test_exactly_one_place(given_keys: dict[str, str]) -> None:
    (problem,) = Source(**given_keys).problems()  # type: ignore[arg-type]
    assert problem.startswith("path: needs one of path, paths, dataset")


def test_secrets_do_not_belong_into_a_config() -> None:
    storage = {"anon": True, "secret": "x", "client_kwargs": {"aws_access_key_id": "y", "endpoint_url": "z"}}
    found = list(Source("s3://a", storage=storage).problems())
    assert [p.split(":")[0] for p in found] == ["storage.secret", "storage.aws_access_key_id"]
    assert "environment" in found[0] and not any(word in " ".join(found) for word in ("x", "y") if len(word) > 1)


def test_what_differs_goes_on_top() -> None:
    assert merge(LISTS, {}) == LISTS
    assert merge(LISTS, {"density": {"min_han": 5}}) == {"html": None, "density": {"min_han": 5, "min_words": 100}}
    assert merge(LISTS, {"density": False}) == {"html": None}
    assert list(merge(LISTS, {"urls": {"words": ["赌"]}, "html": {"comments": True}})) == ["html", "density", "urls"]


def test_lists_by_source_and_subset() -> None:
    subsets = {"Github": Overrides(clean={"density": False}), "Pile-CC": Overrides(refine={"pii": {"ip": False}})}
    pile = Source("x", subset_field="meta.name", subsets=subsets, clean={"density": {"min_words": 50}})
    config = DataConfig({"pile": pile, "web": Source("y")}, LISTS, {"pii": None})
    assert list(config.problems()) == []
    clean, refine = config.cleaners("clean"), config.cleaners("refine")
    assert list(clean) == ["", "pile", "pile-github", "pile-pile-cc"] and clean[""] == LISTS
    assert clean["pile"]["density"] == clean["pile-pile-cc"]["density"] == {"min_han": 100, "min_words": 50}
    assert "density" not in clean["pile-github"]
    assert refine["pile-pile-cc"] == {"pii": {"ip": False}} and refine["pile-github"] == {"pii": None}


def test_mistakes_are_named() -> None:
    assert problems(path="a", clean={"densty": False}) == [
        "sources.pile.clean.densty: nothing to leave out; the list has html, density"
    ]
    assert problems(path="a", refine={"pii": {"ipp": True}}) == [
        "sources.pile.refine.pii.ipp: unknown key; did you mean 'ip'?"
    ]
    twins = {"Git hub": Overrides(), "git-hub": Overrides(clean={"pii": False})}
    found = problems(path="a", subset_field="s", subsets=twins)
    assert (
        found[0]
        == "sources.pile.subsets.git-hub: becomes the source pile-git-hub, as sources.pile.subsets.Git hub does"
    )
    assert found[1].startswith("sources.pile.subsets.git-hub.clean.pii: nothing to leave out")
    both = list(Source("a", max_files=-1, subsets={"x": Overrides()}).problems())
    assert len(both) == 2 and "max_files" in both[0] and "subset_field" in both[1]


@pytest.mark.parametrize(
    ("subset", "name"),
    [("Pile-CC", "pile-pile-cc"), ("DM Mathematics", "pile-dm-mathematics"), ("百科", "pile-百科"), ("", "pile"),
     ("百科 知識", "pile-百科-知識"), ("../..", "pile"), ("a/b\\c\0", "pile-a-b-c"), ("x" * 99, "pile-" + "x" * 40)],
)  # fmt: skip
def test_names_of_subsets(subset: str, name: str) -> None:
    assert subset_name("pile", subset) == name


@given(st.text(max_size=60))
def test_any_subset_makes_a_name_for_files(subset: str) -> None:
    name = subset_name("s", subset)
    assert re.fullmatch(r"s(-[^\W_]+)*", name) and len(name.encode()) < 200


def test_what_counts_for_data_sets_only_is_no_silent_wish() -> None:
    found = list(Source("hf://datasets/a/b", revision="abc", split="test").problems())
    assert [p.split(":")[0] for p in found] == ["split", "revision"]
    assert list(Source(dataset="a/b", revision="abc", split="test").problems()) == []


def test_a_subset_cannot_be_taken_for_another_source() -> None:
    sources = {"pile": Source("x", subset_field="kind"), "pile-zh": Source("y")}
    (problem,) = DataConfig(sources, LISTS, {}).problems()
    assert problem.startswith("sources.pile-zh: a subset of sources.pile may have this name")


def test_a_cleaner_with_nothing_below_it_keeps_its_settings() -> None:
    assert merge(LISTS, {"density": None}) == LISTS


def test_options_of_a_file_system_need_one() -> None:
    (problem,) = Source("pages", storage={"anon": True}).problems()
    assert problem == "storage: counts for URLs only; pages is a file or folder of this machine"
    assert list(Source("s3://pages", storage={"anon": True}).problems()) == []


def test_subsets_by_path_need_a_path_and_no_other_name() -> None:
    cleaners = {"红楼梦": Overrides(clean={"density": False})}
    assert problems(path="a", subset_by_path=True, subsets=cleaners) == []
    twice, no_path = Source("a", subset_field="s", subset_by_path=True), Source(dataset="a/b", subset_by_path=True)
    assert [p.split(":")[0] for s in (twice, no_path) for p in s.problems()] == ["subset_by_path"] * 2
    sources = {"text": Source("x", subset_by_path=True), "text-zh": Source("y")}
    (problem,) = DataConfig(sources, LISTS, {}).problems()
    assert problem.startswith("sources.text-zh: a subset of sources.text may have this name")
