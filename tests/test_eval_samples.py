"""eval.samples: same seed, same text; greedy equals transformers' own generation; both languages come back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_export
import torch

from eval.bpb import open_model
from eval.config import EvalConfig
from eval.samples import continue_prompt, continue_tokens, draw, samples
from mindllm.config import UserError

PROMPTS = ["春天来了，", "葉子落了", "The river"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    tiny_export.write_export(run / "export", num_positions=48)
    return run


def test_greedy_equals_generate(run: Path) -> None:
    model, tokenizer = open_model(run / "export")
    for prompt in PROMPTS:
        start = [1, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        ours = continue_tokens(model, start, 12, 1, EvalConfig(temperature=0))
        theirs = model.generate(torch.tensor([start]), max_new_tokens=12, do_sample=False, pad_token_id=2)
        assert ours == theirs[0, len(start) :].tolist()


def test_seed_decides_and_torchs_own_generator_does_not(run: Path) -> None:
    model, tokenizer = open_model(run / "export")
    texts = []
    for seed, state in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(state)
        texts.append([continue_prompt(model, tokenizer, p, EvalConfig(seed=seed))["text"] for p in PROMPTS])
    assert texts[0] == texts[1] != texts[2]


def test_text_follows_the_prompt_and_stops_at_the_end_of_the_context(run: Path) -> None:
    model, tokenizer = open_model(run / "export")
    for prompt in PROMPTS:
        found = continue_prompt(model, tokenizer, prompt, EvalConfig(max_new_tokens=1000, temperature=0))
        assert found["prompt"] == prompt and not found["text"].startswith(prompt)
        used = 1 + len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) + found["num_tokens"]
        assert found["ended"] or used == 48
    with pytest.raises(UserError, match="the model reads 48"):
        continue_prompt(model, tokenizer, "山" * 100, EvalConfig())


def test_a_document_end_ends_the_text(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = open_model(run / "export")
    ids = tokenizer("天 old", add_special_tokens=False)["input_ids"]
    drawn = iter([*ids, 1, *ids])
    monkeypatch.setattr("eval.samples.draw", lambda *_: next(drawn))
    found = continue_prompt(model, tokenizer, "春", EvalConfig())
    assert found == {"prompt": "春", "text": "天 old", "num_tokens": len(ids) + 1, "ended": True}


def test_draw_keeps_to_the_best() -> None:
    logits = torch.tensor([0.0, 3.0, 2.0, -1.0])
    generator = torch.Generator().manual_seed(1)
    assert {draw(logits, 1.0, 1, generator) for _ in range(20)} == {1}
    assert draw(logits, 0, 0, generator) == 1
    drawn = [draw(logits, 1.0, 2, generator) for _ in range(2000)]
    assert set(drawn) == {1, 2}
    assert drawn.count(1) / 2000 == pytest.approx(torch.softmax(torch.tensor([3.0, 2.0]), 0)[0].item(), abs=0.03)
    assert {draw(logits, 5.0, 0, generator) for _ in range(500)} == {0, 1, 2, 3}


def test_verb_writes_every_prompt(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_export.eval_config(run, prompts=[*PROMPTS, "[bold]x[/]"], max_new_tokens=5)
    assert samples(config) == 0
    first = json.loads((run / "samples" / "samples.json").read_text(encoding="utf-8"))
    assert [s["prompt"] for s in first["samples"]] == config.prompts
    assert first["settings"] == {"max_new_tokens": 5, "temperature": 0.8, "top_k": 40, "seed": 1}
    assert "[bold]x[/]" in capsys.readouterr().out
    with pytest.raises(UserError, match="prompts: name at least one"):
        samples(tiny_export.eval_config(run))
