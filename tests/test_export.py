"""Export, from trained runs: stock transformers loads it and computes the same, or nothing is marked as done."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from hf_folders import write_model
from safetensors.torch import load_file, save_file
from training_script import command_lines, write_inputs

from mindllm.checkpoint import folder_name
from mindllm.config import UserError, load
from mindllm.export import PROBES, ExportConfig, compare, difference, export, probe_logits, restore
from mindllm.hf import load_model, read_config
from mindllm.hf.load import empty_model
from mindllm.hf.start import start_from
from mindllm.stage import read_json, write_json
from mindllm.tokenizer import load_tokenizer

RUNS = {
    "deepnorm": ["train.zero_stage=2"],
    "prenorm": ["model.residual=prenorm", "model.tie_word_embeddings=true", "train.precision=bf16"],
    "single": ["model.num_key_value_heads=1", "model.tie_word_embeddings=true", "train.zero_stage=3"],
    "biased": ["model.residual=prenorm", "model.qkv_bias=true", "model.hidden_act=silu", "model.vocab_multiple=64"],
}
STARTED = {"gemma": "gemma", "neo": "gpt_neo", "mistral": "mistral"}  # run -> the model of hf_folders it starts from
CLASSES = {"deepnorm": "MiniMaxForCausalLM", "prenorm": "LlamaForCausalLM", "single": "MiniMaxForCausalLM",
           "biased": "LlamaForCausalLM", "gemma": "GemmaForCausalLM", "neo": "GPTNeoForCausalLM",
           "mistral": "LlamaForCausalLM"}  # fmt: skip
UNTIED = ("deepnorm", "biased", "mistral")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer, shards, and a two-step run for each of RUNS and STARTED."""
    root = tmp_path_factory.mktemp("export")
    words = [*write_inputs(root), "train.steps=2"]
    calls = [{"words": [*words, f"out={root}/{name}", *changes]} for name, changes in RUNS.items()]
    calls += [{"words": [start_config(root, name), "train.steps=2", f"out={root}/{name}"]} for name in STARTED]
    found = command_lines(root, calls)
    assert [c["code"] for c in found] == [0] * len(calls), [c["err"] for c in found]
    assert all(f"init_from: weights of {root}/{n}-weights" in c["out"] for n, c in zip(STARTED, found[4:], strict=True))
    return root


def start_config(root: Path, name: str) -> str:
    """A config of a run that starts from stock weights with our tokenizer, its table padded; its path."""
    size, weights = load_tokenizer(root / "tokenizer").vocab_size, root / f"{name}-weights"
    write_model(weights, STARTED[name], store="shards", vocab_size=size + 11)
    (weights / "tokenizer.json").write_bytes((root / "tokenizer" / "tokenizer.json").read_bytes())
    values = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
    values |= {"init_from": str(weights), "model": {**asdict(read_config(weights)), "vocab_size": size + 3}}
    (root / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(root / f"{name}.yaml")


def settings(folder: Path, name: str, out: str, *changes: str) -> ExportConfig:
    """The stage's config for one of the runs."""
    given = [f"run={folder}", f"model={folder}/{name}", f"out={folder}/{out}"]
    return load(ExportConfig, None, ["tokenizer={run}/tokenizer", *given, *changes])


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    """(T, V) in fp32."""
    with torch.no_grad():
        found = model(torch.tensor([ids]))
    return (found if isinstance(found, torch.Tensor) else found.logits)[0].float()


@pytest.mark.parametrize("name", [*RUNS, *STARTED])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stock_transformers_computes_the_same(folder: Path, name: str, dtype: str) -> None:
    out = folder / f"{name}-{dtype}"
    if (name, dtype) == ("gemma", "bfloat16"):
        return  # 24 channels: see test_gemma_in_bfloat16_becomes_a_llama
    assert export(settings(folder, name, out.name, f"dtype={dtype}")) == 0
    meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))["counts"]
    assert meta["class"] == CLASSES[name] and meta["step"] == 2
    assert not [p.name for p in out.iterdir() if p.suffix in (".bin", ".pt", ".py")]
    stored = load_file(out / "model.safetensors")
    assert {str(t.dtype) for t in stored.values()} == {f"torch.{dtype}"}

    tokenizer = load_tokenizer(out)
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, local_files_only=True).eval()
    twin = transformers.AutoTokenizer.from_pretrained(out, local_files_only=True)
    ours, run = restore(folder / name / folder_name(2), folder / name)
    if dtype == "bfloat16":
        ours = ours.to(torch.bfloat16).float()  # stored weights are rounded, and nothing else is
    for text in PROBES:
        ids = tokenizer.encode_batch([text])[0][: run.seq_len].tolist()
        assert twin.encode(text, add_special_tokens=False)[: run.seq_len] == ids
        kept = logits(ours, ids)[:, : tokenizer.vocab_size]
        torch.testing.assert_close(logits(model, ids), kept, rtol=1e-5, atol=1e-4 if name == "gemma" else 1e-5)
    assert model.config.vocab_size == tokenizer.vocab_size
    assert model.config.tie_word_embeddings == run.model.tie_word_embeddings == (name not in UNTIED)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_id
    assert model.generation_config.max_length == run.seq_len
    prompt = twin("河边", return_tensors="pt", add_special_tokens=False)
    found = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    ids = prompt["input_ids"][0].tolist()
    for _ in range(5):  # the same by hand, without a cache
        ids.append(int(logits(ours, ids)[-1, : tokenizer.vocab_size].argmax()))
        if ids[-1] == tokenizer.eos_id:
            break
    assert found[0].tolist() == ids


def test_a_tampered_export_is_refused(folder: Path) -> None:
    out = folder / "tampered"
    export(settings(folder, "deepnorm", out.name))
    ours, _ = restore(folder / "deepnorm" / folder_name(2), folder / "deepnorm")
    tokenizer = load_tokenizer(folder / "tokenizer")
    expected = probe_logits(ours, tokenizer, 16)
    assert compare(expected, tokenizer, out, 1e-4) < 1e-5
    good = load_file(out / "model.safetensors")
    for value in (0.5, float("nan")):
        bad = {name: tensor.clone() for name, tensor in good.items()}
        bad["model.layers.1.self_attn.v_proj.weight"][3, 4] += value
        save_file(bad, out / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(RuntimeError, match="logits differ by"):
            compare(expected, tokenizer, out, 1e-4)
    save_file(good, out / "model.safetensors", metadata={"format": "pt"})
    vocabulary = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary["model"]["merges"] = vocabulary["model"]["merges"][10:]
    (out / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.raises(RuntimeError, match="the exported tokenizer .* disagrees on"):
        compare(expected, tokenizer, out, 1e-4)


def test_what_disagrees_is_not_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindllm.export.TOLERANCE", -1.0)
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


@pytest.mark.parametrize("name", STARTED)
def test_a_run_starts_from_the_weights(folder: Path, name: str) -> None:
    """Two steps away from them, the tokens' rows among them; an export of it can be started from again."""
    ours, run = restore(folder / name / folder_name(2), folder / name)
    size = load_tokenizer(folder / "tokenizer").vocab_size
    before, after = load_model(folder / f"{name}-weights").state_dict(), ours.state_dict()
    for key, weight in after.items():
        change = (weight[:size] - before[key][: min(len(weight), size)]).abs().max()
        assert 0 < change < 0.01, key  # learning rate 2e-3
    out = folder / f"{name}-again"
    export(settings(folder, name, out.name))
    fresh = empty_model(run.model)
    start_from(fresh, out, folder / "tokenizer")
    for key, weight in fresh.state_dict().items():
        torch.testing.assert_close(weight[:size], after[key][:size], rtol=1e-6, atol=1e-6)


def test_gemma_in_bfloat16_becomes_a_llama(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(settings(folder, "gemma", "gemma-half", "dtype=bfloat16")) == 0
    assert "does not hold sqrt(hidden_size)" in capsys.readouterr().out
    assert read_json(folder / "gemma-half" / "meta.json")["counts"]["class"] == "LlamaForCausalLM"
    with pytest.raises(UserError, match="architecture=llama"):
        export(settings(folder, "gemma", "never", "dtype=bfloat16", "architecture=gemma"))
    assert not (folder / "never").exists()
    assert export(settings(folder, "prenorm", "as-gemma", "architecture=gemma")) == 0  # GeGLU, tied
    assert read_json(folder / "as-gemma" / "meta.json")["counts"]["class"] == "GemmaForCausalLM"


def test_a_qwen2_takes_a_tokenizer_of_its_own(folder: Path) -> None:
    """So transformers 5 cannot open ours beside it; it is refused, and not made unless asked for."""
    with pytest.raises(RuntimeError, match=r"tokenizer \(Qwen2Tokenizer\) disagrees"):
        export(settings(folder, "biased", "qwen2", "architecture=qwen2"))
    assert not (folder / "qwen2" / "meta.json").exists()


def test_where_the_weights_have_gone_the_usual_class_is_taken(folder: Path, tmp_path: Path) -> None:
    config = folder / "gemma-weights" / "config.json"
    config.rename(tmp_path / "config.json")
    assert export(settings(folder, "gemma", "orphan")) == 0
    (tmp_path / "config.json").rename(config)
    assert read_json(folder / "orphan" / "meta.json")["counts"]["class"] == "LlamaForCausalLM"


@pytest.mark.parametrize("name", ["deepnorm", "biased", "neo"])
def test_shards_hold_the_same(folder: Path, name: str) -> None:
    out = folder / f"{name}-shards"
    assert export(settings(folder, name, out.name, "max_shard_size=30KB")) == 0
    parts = sorted(out.glob("model-*.safetensors"))
    assert len(parts) > 2 and not (out / "model.safetensors").exists()
    index = read_json(out / "model.safetensors.index.json")
    assert {p.name for p in parts} == set(index["weight_map"].values())
    whole = folder / f"{name}-whole"
    export(settings(folder, name, whole.name))
    stored = {key: tensor for part in parts for key, tensor in load_file(part).items()}
    expected = load_file(whole / "model.safetensors")
    assert stored.keys() == expected.keys() and all(torch.equal(stored[key], expected[key]) for key in stored)
    ours, same = (load_model(part).state_dict() for part in (out, whole))
    assert all(torch.equal(ours[key], same[key]) for key in ours)


def test_what_lies_beside_the_weights(folder: Path) -> None:
    out = folder / "beside"
    export(settings(folder, "deepnorm", out.name, "license=apache-2.0"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(out, local_files_only=True)
    talk = [{"role": "user", "content": "几点了？"}, {"role": "assistant", "content": "七點。"}]
    said = "<|endoftext|><|user|>\n几点了？\n<|assistant|>\n七點。<|endoftext|>"
    assert tokenizer.apply_chat_template(talk, tokenize=False) == said
    card = (out / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1]) | {"language": ["en", "zh"]} == {
        "language": ["en", "zh"], "library_name": "transformers", "pipeline_tag": "text-generation",
        "license": "apache-2.0",
    }  # fmt: skip
    meta = read_json(folder / "deepnorm" / "meta.json")
    assert read_json(out / "meta.json")["counts"]["in"] == meta["counts"]["parameters"]  # no padding, no router
    for part in ("MiniMaxForCausalLM", f"{meta['counts']['in']:,} tokens in 2 steps", "web-zh", "only a convention",
                 f"{meta['counts']['valid_bpb']:.4f}", meta["hash"]):  # fmt: skip
        assert part in card
    assert str(folder) not in card
    values = read_json(out / "config.json")
    assert values["rope_theta"] == 10000.0 and values["rope_scaling"] is None  # for transformers 4
    generation = read_json(out / "generation_config.json")
    assert generation["eos_token_id"] == tokenizer.eos_token_id and generation["pad_token_id"] == tokenizer.pad_token_id
    assert not generation.get("do_sample")
    bare = folder / "bare"
    export(settings(folder, "deepnorm", bare.name, "chat_template=false"))
    assert "chat_template" not in read_json(bare / "tokenizer_config.json")
    assert "## Chat" not in (bare / "README.md").read_text(encoding="utf-8")


def test_bad_settings_are_named() -> None:
    for value in ("5", "0GB", "5 TB", "-1GB", "1.5GB"):
        with pytest.raises(UserError, match="max_shard_size: .* is no size such as 5GB"):
            load(ExportConfig, None, [f"max_shard_size={value}"])
    with pytest.raises(UserError, match="architecture"):
        load(ExportConfig, None, ["architecture=bert"])


def test_the_difference_is_relative_and_of_the_worst_position() -> None:
    torch.manual_seed(1)
    ours = torch.randn(5, 400) * 3 + 100
    theirs = ours.clone()
    theirs[3] += 0.03
    assert abs(float(difference(ours, theirs)) - 0.01) < 1e-3
    assert abs(float(difference(ours * 50, theirs * 50)) - 0.01) < 1e-3
    assert float(difference(ours, ours)) == 0 and float(difference(torch.zeros(1, 4), torch.zeros(1, 4))) == 0
    assert torch.isnan(difference(ours, ours * float("nan")))


@pytest.mark.parametrize("key", ["model", "tokenizer"])
def test_what_is_exported_cannot_be_overwritten(tmp_path: Path, key: str) -> None:
    (tmp_path / "c.yaml").write_text("force: true\n")
    with pytest.raises(UserError, match=f"is the {key} folder itself"):
        load(ExportConfig, tmp_path / "c.yaml", [f"{key}={tmp_path}/x", f"out={tmp_path}/y/../x"])
