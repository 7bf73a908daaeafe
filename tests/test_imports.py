"""Who may import what: directions between the packages, groups inside mindllm, one owner per external package."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mindllm", "data_pipeline", "eval")
MAY_IMPORT = {"mindllm": {"mindllm"}, "data_pipeline": {"data_pipeline", "mindllm"}, "eval": {"eval", "mindllm"}}
GROUPS = (  # a module of mindllm imports from its own group and those before it
    "config",
    "cli stage hashing text language page host progress",
    "tokenizer shard_files shard_faults shards mixture endpoint",
    "attention loss models",
    "hf",
    "engine",
    "checkpoint metrics generate",
    "train training_data plan",
    "pretrain reshard export chain doctor",
)
OWNERS = {  # external package -> the files that know it
    "ahocorasick_rs": ["data_pipeline/cleaners/sensitive.py"],
    "datasets": ["data_pipeline/reading/hub.py", "eval/tasks/mini/helpers.py", "eval/tasks/mindllm/helpers.py"],
    "deepspeed": ["mindllm/engine/library.py"],
    "fastwarc": ["data_pipeline/reading/warc.py"],
    "fsspec": ["data_pipeline/reading/remote.py"],
    "huggingface_hub": ["data_pipeline/reading/hub.py", "mindllm/tokenizer/base.py"],
    "jinja2": ["mindllm/page.py"],
    "liger_kernel": ["mindllm/loss.py"],
    "lm_eval": ["eval/harness/*", "eval/tasks/mindllm/helpers.py"],
    "markupsafe": ["mindllm/page.py"],
    "matplotlib": ["eval/report/figures.py"],
    "numpy": ["*"],
    "opencc": ["mindllm/language.py"],
    "pyarrow": [
        "data_pipeline/*",
        "eval/contamination/texts.py",
        "mindllm/tokenizer/sample.py",
        "mindllm/tokenizer/unseen.py",
    ],
    "ray": ["data_pipeline/ray_engine.py"],
    "rensa": ["data_pipeline/duplicates/minhash.py"],
    "resiliparse": ["data_pipeline/pages/charset.py"],
    "rich": ["*"],
    "sacrebleu": ["eval/tasks/mindllm/helpers.py"],
    "safetensors": ["data_pipeline/cleaners/quality.py", "mindllm/hf/weights.py"],
    "scipy": ["data_pipeline/train_quality.py", "eval/elo/bradley_terry.py"],
    "selectolax": ["data_pipeline/pages/blocks.py", "data_pipeline/pages/nodes.py"],
    "sentencepiece": ["mindllm/tokenizer/pieces.py"],
    "sklearn": ["data_pipeline/train_quality.py"],
    "threadpoolctl": ["data_pipeline/train_quality.py"],
    "tiktoken": ["mindllm/tokenizer/others.py"],
    "tokenizers": [f"mindllm/tokenizer/{name}.py" for name in ("bytelevel", "fast", "foreign", "others")],
    "torch": ["mindllm/*", "eval/*"],
    "transformers": ["mindllm/hf/*", "eval/scorer/cache.py"],
    "xxhash": ["*"],
    "wandb": ["mindllm/metrics/board.py"],
    "yaml": [
        "mindllm/config.py",
        "mindllm/train/run_folder.py",
        "eval/harness/tasks.py",
        "eval/importing/stock.py",
        "eval/importing/tasks.py",
    ],
}
COMES_WITH = {
    "markupsafe": "jinja2",
    "sacrebleu": "lm_eval",
    "threadpoolctl": "scikit-learn",
}  # no dependency of its own
WITHOUT_TORCH = ("data_pipeline.__main__", *(f"mindllm.{n}" for n in ("tokenizer", "mixture", "metrics.plot", "chain")))
SOURCES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_directions_between_the_packages() -> None:
    ours = {*PACKAGES, "tests", "bench", "samples"}
    for path in SOURCES:
        found = {module.split(".")[0] for module in imports(path)} & ours
        assert found <= MAY_IMPORT[name(path).split("/")[0]], name(path)


def test_groups_inside_mindllm() -> None:
    level = {module: number for number, group in enumerate(GROUPS) for module in group.split()}
    files = {
        p: p.relative_to(ROOT / "mindllm").parts[0].removesuffix(".py")
        for p in SOURCES
        if name(p).startswith("mindllm/")
    }
    assert set(files.values()) - {"__init__"} == set(level), "a module without a group, or a group without its module"
    for path, module in files.items():
        for word in [i.split(".")[1] for i in imports(path) if i.startswith("mindllm.")]:
            if word in level and module in level:
                assert level[word] <= level[module], f"{name(path)} imports mindllm.{word} of a later group"


def test_external_packages_have_owners() -> None:
    used: dict[str, set[str]] = {}
    for path in SOURCES:
        for module in (
            {i.split(".")[0] for i in imports(path)} - set(sys.stdlib_module_names) - {*PACKAGES, "__future__"}
        ):
            used.setdefault(module, set()).add(name(path))
    assert set(used) == set(OWNERS), "write new packages and their owners into the table, take old ones out"
    for package, paths in used.items():
        strangers = [p for p in paths if not any(fnmatch(p, owner) for owner in OWNERS[package])]
        assert not strangers, f"{package} belongs to {OWNERS[package]}"


def test_every_external_package_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [d for name, listed in project["optional-dependencies"].items() if name != "dev" for d in listed]
    words = [re.split(r"[<>=\[]", d)[0] for d in [*project["dependencies"], *extras]]
    declared = {word.lower().replace("_", "-") for word in words}
    distributions = importlib.metadata.packages_distributions()
    for package in set(OWNERS) - set(COMES_WITH):
        names = {d.lower().replace("_", "-") for d in distributions.get(package, [package])}  # extras may be absent
        assert names & declared, f"{package} is imported, but no dependency in pyproject.toml brings it"


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_text_tools_start_without_torch(module: str) -> None:
    """In a process of its own, for what is imported by what is imported."""
    code = (
        f"import sys, {module}; print(*sorted({{'torch', 'transformers', 'deepspeed', 'lm_eval'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
