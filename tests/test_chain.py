"""The whole chain at once: raw pages of both languages to an evaluated model and its report; then kills at random.

Real stages under the real launcher, only smaller: some pages of samples/web, a model of 2 layers, 6 steps.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mindllm.chain import ChainConfig
from mindllm.chain import command as stage_command
from mindllm.config import load

Finished = tuple[Path, Path, subprocess.CompletedProcess[str]]  # run folder, input folder, how the chain ended
ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "clean": ["workers.num_workers=1"],
    "dedup": ["workers.num_workers=1"],
    "refine": ["workers.num_workers=1"],
    "tokenizer": ["vocab_size=3000"],
    "shards": ["workers.num_workers=1", "shard.valid_fraction=0.25"],
    "pretrain": [
        "train.steps=6", "train.warmup_steps=2", "train.batch_size=4", "train.micro_batch_size=2", "train.save_every=2",
        "train.eval_every=3", "seq_len=64", "model.hidden_size=32", "model.intermediate_size=64",
        "model.num_hidden_layers=2",
        "model.num_attention_heads=2", "model.num_key_value_heads=1", "train.num_threads=1", "valid_samples=8",
    ],
    "harness": ["limit=4"],
    "samples": ["max_new_tokens=8"],
}  # fmt: skip


def pages(folder: Path, per_site: int = 3) -> Path:
    """A small input folder in several formats: a few pages of each site, packed ones whole."""
    for site in sorted((ROOT / "samples" / "web").iterdir()):
        if site.is_dir():
            for page in [p for p in sorted(site.rglob("*")) if p.is_file()][:per_site]:
                target = folder / page.relative_to(ROOT / "samples" / "web")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(page, target)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(site, folder / site.name)
    return folder


def command(run: Path, source: Path, *more: str) -> list[str]:
    """`make demo` on other pages and with the small settings."""
    settings = f"set={json.dumps(SMALL)}"
    words = [
        sys.executable,
        "-m",
        "mindllm.chain",
        "configs/chain/demo.yaml",
        f"run={run}",
        f"input={source}",
        settings,
    ]
    return [*words, *more]


def go(run: Path, source: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(run, source, *more), cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )


def outputs(run: Path) -> dict[str, str]:
    """Hash of everything that must be the same in every run: texts, tokenizer, shards, exported weights."""
    kinds = ("clean/*.parquet", "dedup/*.parquet", "refine/*.parquet", "tokenizer/tokenizer.*", "shards/*/*/*.bin")
    found = [p for kind in (*kinds, "shards/*/*/*.ends", "export/model*.safetensors") for p in sorted(run.glob(kind))]
    assert len(found) >= 8, f"a chain leaves more than {found}"
    return {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("chain")
    source = pages(folder / "pages")
    return folder / "run", source, go(folder / "run", source)


def test_pages_become_a_model_and_a_report(finished: Finished) -> None:
    run, _, result = finished
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(run / "export"),
        AutoTokenizer.from_pretrained(run / "export"),
    )
    ids = tokenizer("港口的燈塔 and the sea", return_tensors="pt")
    text = tokenizer.decode(model.generate(**ids, max_new_tokens=4)[0])
    assert text.startswith("港口的燈塔 and the sea")
    measured = json.loads((run / "bpb" / "bpb.json").read_text(encoding="utf-8"))
    assert measured["total"]["bpb"]["model"] > 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page, "the report works offline"
    for stage in ("clean", "dedup", "refine", "tokenizer", "shards", "pretrain", "export", "harness", "bpb", "samples"):
        assert stage in result.stdout


def test_a_second_run_has_nothing_to_do(finished: Finished) -> None:
    run, source, _ = finished
    before = outputs(run)
    again = go(run, source)
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stdout.count("done before") == 10, again.stdout
    assert outputs(run) == before


def test_a_changed_threshold_is_refused_with_the_difference(
    finished: Finished,
) -> None:
    run, source, _ = finished
    changed = [w.replace('"clean": [', '"clean": ["clean.density.min_han=90", ') for w in command(run, source)]
    result = subprocess.run(changed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "min_han: 100 -> 90" in result.stderr and "force=true" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_chain_that_needs_an_input_says_what_it_is() -> None:
    words = [sys.executable, "-m", "mindllm.chain", "configs/chain/base-small.yaml", "input="]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stdout == ""
    assert "input: give a folder of texts: make base-small INPUT=FOLDER" in result.stderr


@pytest.mark.parametrize(("name", "key"), [("demo", "sources.web.path"), ("base-small", "sources.text.path")])
def test_the_input_goes_to_the_first_stage(
    name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    config = load(ChainConfig, f"configs/chain/{name}.yaml", [f"input={tmp_path}", "run=runs/某"])
    words = {stage: stage_command(config, stage, settings) for stage, settings in config.stages.items()}
    assert words["clean"][-2:] == ["run=runs/某", f"{key}={tmp_path}"]
    assert not any(str(tmp_path) in word for stage in list(words)[1:] for word in words[stage])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_anywhere_and_started_again_ends_the_same(seed: int, finished: Finished, tmp_path: Path) -> None:
    run, source, result = finished
    assert result.returncode == 0
    moments = random.Random(seed)
    for _ in range(3):
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        process = subprocess.Popen(command(tmp_path / "run", source), cwd=ROOT, **silent)
        time.sleep(moments.uniform(1, 60))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = go(tmp_path / "run", source)
    assert last.returncode == 0, last.stderr[-2000:]
    assert outputs(tmp_path / "run") == outputs(run)
