"""eval.samples: same seed, same text; greedy equals transformers' own generation; both languages come back."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_export
import torch
import transformers

from eval.config import EvalConfig
from eval.samples import continue_prompts, samples
from mindllm.config import UserError
from mindllm.generate import open_vocabulary
from mindllm.stage import write_json

PROMPTS = ["春天来了，", "葉子落了", "The river"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    tiny_export.write_export(run / "export", num_positions=48)
    return run


def config(run: Path, **changes: Any) -> EvalConfig:
    return tiny_export.eval_config(run, **{"prompts": PROMPTS, **changes})


def test_greedy_equals_transformers(run: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(run / "export")
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "export")
    tokens = open_vocabulary(run / "export").tokens
    for ours, prompt in zip(continue_prompts(config(run, temperature=0, max_new_tokens=12)), PROMPTS, strict=True):
        start = [1, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        theirs = model.generate(torch.tensor([start]), max_new_tokens=12, do_sample=False, pad_token_id=2)
        new = theirs[0, len(start) :].tolist()
        assert ours["num_tokens"] == len(new) and ours["ended"] == (new[-1] == 1)
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join(tokens[i] for i in new))
        assert ours["text"] == text  # a random model writes bytes that are no text, which decoders show differently


def test_seed_decides_and_torchs_own_generator_does_not(run: Path) -> None:
    texts = []
    for seed, state, batch_size in ((1, 5, 8), (1, 6, 1), (2, 5, 8)):
        torch.manual_seed(state)
        texts.append([found["text"] for found in continue_prompts(config(run, seed=seed, batch_size=batch_size))])
    assert texts[0] == texts[1] != texts[2]


def test_text_stops_at_the_end_of_the_context(run: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "export")
    for found, prompt in zip(continue_prompts(config(run, max_new_tokens=1000, temperature=0)), PROMPTS, strict=True):
        assert found["prompt"] == prompt and not found["text"].startswith(prompt)
        used = 1 + len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) + found["num_tokens"]
        assert found["ended"] or used == 48
    with pytest.raises(UserError, match="the model reads 48"):
        continue_prompts(config(run, prompts=["山" * 100]))


def test_a_document_end_ends_the_text(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "export")
    ids = tokenizer("天 old", add_special_tokens=False)["input_ids"]
    drawn = iter([*ids, 1])
    monkeypatch.setattr("mindllm.generate.tokens.draw", lambda *_: torch.tensor([next(drawn)]))
    assert continue_prompts(config(run, prompts=["春"])) == [
        {"prompt": "春", "text": "天 old", "num_tokens": len(ids) + 1, "ended": True}
    ]


def test_verb_writes_every_prompt(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = config(run, prompts=[*PROMPTS, "[bold]x[/]"], max_new_tokens=5)
    assert samples(wanted) == 0
    first = json.loads((run / "samples" / "samples.json").read_text(encoding="utf-8"))
    assert [s["prompt"] for s in first["samples"]] == wanted.prompts
    assert first["settings"] == {"max_new_tokens": 5, "temperature": 0.8, "top_k": 40, "seed": 1}
    assert set(first["samples"][0]) == {"prompt", "text", "num_tokens", "ended"}
    assert "[bold]x[/]" in capsys.readouterr().out
    with pytest.raises(UserError, match="prompts: name at least one"):
        samples(config(run, prompts=[]))


def test_a_model_that_we_do_not_compute_is_an_error_that_says_so(tmp_path: Path) -> None:
    tiny_export.write_export(tmp_path / "export")
    shape = json.loads((tmp_path / "export" / "config.json").read_text(encoding="utf-8"))
    write_json(
        tmp_path / "export" / "config.json", {**shape, "model_type": "bert", "architectures": ["BertLMHeadModel"]}
    )
    with pytest.raises(UserError, match="bert"):
        samples(config(tmp_path))


def test_settings_that_cannot_work_are_named_before_the_model_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="temperature: 1e-40"):
        continue_prompts(tiny_export.eval_config(tmp_path, temperature=1e-40))
