"""Export, from trained runs: stock transformers loads it and computes the same, or nothing is marked as done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from training_script import command_lines, write_inputs

from mindllm.checkpoint import folder_name
from mindllm.config import UserError, load
from mindllm.export import PROBES, TOLERANCE, ExportConfig, compare, export, restore
from mindllm.stage import read_json, write_json
from mindllm.tokenizer import load_tokenizer

RUNS = {
    "deepnorm": ["train.zero_stage=2"],
    "prenorm": ["model.residual=prenorm", "model.tie_word_embeddings=true", "train.precision=bf16"],
    "single": ["model.num_key_value_heads=1", "model.tie_word_embeddings=true", "train.zero_stage=3"],
}
CLASSES = {"deepnorm": "MiniMaxForCausalLM", "prenorm": "LlamaForCausalLM", "single": "MiniMaxForCausalLM"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer, shards, and a two-step run for each of RUNS."""
    root = tmp_path_factory.mktemp("export")
    words = [*write_inputs(root), "train.steps=2"]
    calls = [{"words": [*words, f"out={root}/{name}", *changes]} for name, changes in RUNS.items()]
    assert [c["code"] for c in command_lines(root, calls)] == [0] * len(RUNS)
    return root


def settings(folder: Path, name: str, out: str, *changes: str) -> ExportConfig:
    """The stage's config for one of the runs."""
    given = [f"run={folder}", f"model={folder}/{name}", f"out={folder}/{out}"]
    return load(ExportConfig, None, ["tokenizer={run}/tokenizer", *given, *changes])


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    """(T, V) in fp32."""
    with torch.no_grad():
        found = model(torch.tensor([ids]))
    return (found if isinstance(found, torch.Tensor) else found.logits)[0].float()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stock_transformers_computes_the_same(folder: Path, name: str, dtype: str) -> None:
    out = folder / f"{name}-{dtype}"
    assert export(settings(folder, name, out.name, f"dtype={dtype}")) == 0
    meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))["counts"]
    assert meta["class"] == CLASSES[name] and meta["step"] == 2
    assert not [p.name for p in out.iterdir() if p.suffix in (".bin", ".pt", ".py")]
    stored = load_file(out / "model.safetensors")
    assert {str(t.dtype) for t in stored.values()} == {f"torch.{dtype}"}

    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, local_files_only=True).eval()
    twin = transformers.AutoTokenizer.from_pretrained(out, local_files_only=True)
    ours, run = restore(folder / name / folder_name(2), folder / name)
    if dtype == "bfloat16":
        ours = ours.to(torch.bfloat16).float()  # stored weights are rounded, and nothing else is
    tokenizer = load_tokenizer(out)
    for text in PROBES:
        ids = tokenizer.encode_batch([text])[0][: run.seq_len].tolist()
        assert twin.encode(text, add_special_tokens=False)[: run.seq_len] == ids
        torch.testing.assert_close(logits(model, ids), logits(ours, ids), rtol=1e-5, atol=1e-5)
    assert model.config.tie_word_embeddings == ours.config.tie_word_embeddings == (name != "deepnorm")
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_id
    assert model.generation_config.max_length == run.seq_len
    prompt = twin("河边", return_tensors="pt", add_special_tokens=False)
    found = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    ids = prompt["input_ids"][0].tolist()
    for _ in range(5):  # the same by hand, without a cache
        ids.append(int(logits(ours, ids)[-1].argmax()))
        if ids[-1] == tokenizer.eos_id:
            break
    assert found[0].tolist() == ids


def test_a_tampered_export_is_refused(folder: Path) -> None:
    out = folder / "tampered"
    export(settings(folder, "deepnorm", out.name))
    ours, _ = restore(folder / "deepnorm" / folder_name(2), folder / "deepnorm")
    tokenizer = load_tokenizer(folder / "tokenizer")
    assert compare(ours, tokenizer, out, "float32") < 1e-5
    good = load_file(out / "model.safetensors")
    for value in (0.5, float("nan")):
        bad = {name: tensor.clone() for name, tensor in good.items()}
        bad["model.layers.1.self_attn.v_proj.weight"][3, 4] += value
        save_file(bad, out / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(RuntimeError, match="logits differ by"):
            compare(ours, tokenizer, out, "float32")
    save_file(good, out / "model.safetensors", metadata={"format": "pt"})
    vocabulary = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary["model"]["merges"] = vocabulary["model"]["merges"][10:]
    (out / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.raises(RuntimeError, match="the exported tokenizer disagrees on"):
        compare(ours, tokenizer, out, "float32")


def test_what_disagrees_is_not_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOLERANCE, "float32", -1.0)
    with pytest.raises(RuntimeError, match="nothing is marked as done"):
        export(settings(folder, "prenorm", "wrong"))
    assert not (folder / "wrong" / "meta.json").exists()
    monkeypatch.undo()
    assert export(settings(folder, "prenorm", "wrong")) == 0 and (folder / "wrong" / "meta.json").exists()


def test_done_again_and_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(settings(folder, "deepnorm", "again")) == 0
    assert export(settings(folder, "deepnorm", "again")) == 0
    assert "done before, nothing to do" in capsys.readouterr().out
    with pytest.raises(UserError, match='config.dtype: "float32" -> "bfloat16"'):
        export(settings(folder, "deepnorm", "again", "dtype=bfloat16"))
    with pytest.raises(UserError, match="inputs.checkpoint"):
        export(settings(folder, "single", "again"))
    with pytest.raises(UserError, match="no complete checkpoint here; train first"):
        export(settings(folder, "shards", "none"))


def test_an_unfinished_run_or_a_strange_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    meta = folder / "prenorm" / "meta.json"
    old = read_json(meta)
    write_json(meta, {**old, "inputs": {**old["inputs"], "tokenizer": "0123456789abcdef"}})
    with pytest.raises(UserError, match="is not the 0123456789abcdef that .* was trained with"):
        export(settings(folder, "prenorm", "strange"))
    meta.unlink()
    with pytest.raises(UserError, match="not complete .* finish the training"):
        export(settings(folder, "prenorm", "unfinished"))
    write_json(meta, old)
    assert not (folder / "strange").exists() and not (folder / "unfinished").exists()
