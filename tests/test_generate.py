"""mindllm.generate on token ids: transformers' greedy output token by token, batched, padded, cut and ended."""

from __future__ import annotations

from typing import Any

import hf_folders
import pytest
import torch

from mindllm.config import UserError
from mindllm.generate import Drawn, Settings, draw_tokens, generate
from mindllm.hf import load_model
from mindllm.models import GPTNeo, GPTNeoConfig, LanguageModel, MindLLM, MindLLMConfig

EOS, LIMIT = 1, 64
PROMPTS = [[1, 5, 9, 11, 3, 3, 17], [1], [1, 38, 4, 20, 31, 6, 7, 8, 21, 12, 39, 30], [1, 5, 9], [1, 22]]
GREEDY = Settings(temperature=0, max_new_tokens=20)


@pytest.fixture(scope="module", params=sorted(hf_folders.CONFIGS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, Any]:
    """Our model and transformers' of the same folder."""
    folder = tmp_path_factory.mktemp("model")
    theirs = hf_folders.new_model(request.param, initializer_range=1.0)  # far from uniform, so that prompts matter
    for name, parameter in theirs.named_parameters():
        if name.startswith("transformer.") and name.endswith("bias"):
            torch.nn.init.zeros_(parameter)  # or every token is the same
    theirs.save_pretrained(folder)
    return load_model(folder), theirs


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """One with rows for 48 tokens."""
    torch.manual_seed(3)
    return MindLLM(MindLLMConfig(vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                                 num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=LIMIT,
                                 initializer_range=0.6)).eval()  # fmt: skip


def their_greedy(model: Any, prompts: list[list[int]], num_new: int, **settings: Any) -> list[list[int]]:
    """What transformers' generate adds, to the first EOS; padded on the left with EOS, which every prompt holds."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[EOS] * (longest - len(p)) + p for p in prompts])
    attention = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(ids, attention_mask=attention, max_new_tokens=num_new, do_sample=False, eos_token_id=EOS,
                         pad_token_id=EOS, bos_token_id=EOS, **settings)  # fmt: skip
    new = [row[longest:].tolist() for row in out]
    return [row[: row.index(EOS) + 1] if EOS in row else row for row in new]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]], ids=["padded", "alone"])
def test_greedy_equals_transformers(pair: tuple[LanguageModel, Any], penalty: float, prompts: list[list[int]]) -> None:
    ours, theirs = pair
    settings = Settings(temperature=0, max_new_tokens=12, repetition_penalty=penalty)
    found = [written.ids for written in generate(ours, prompts, settings, [EOS])]
    assert found == their_greedy(theirs, prompts, 12, repetition_penalty=penalty)
    assert len({tuple(ids) for ids in found}) > len(prompts) // 2, "prompts that give the same prove nothing"


def test_greedy_equals_transformers_over_the_whole_context(pair: tuple[LanguageModel, Any]) -> None:
    ours, theirs = pair
    found = generate(ours, [PROMPTS[0]], Settings(temperature=0, max_new_tokens=1000))
    room = LIMIT - len(PROMPTS[0])
    assert found[0].reason == "context" and len(found[0].ids) == room
    assert found[0].ids == their_greedy_without_end(theirs, PROMPTS[0], room)


def their_greedy_without_end(model: Any, prompt: list[int], num_new: int) -> list[int]:
    model.generation_config.eos_token_id = None
    try:
        out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                             max_new_tokens=num_new, do_sample=False, pad_token_id=2)  # fmt: skip
    finally:
        model.generation_config.eos_token_id = EOS
    new: list[int] = out[0, len(prompt) :].tolist()
    return new


def test_every_sequence_has_its_own_room_and_reason(model: LanguageModel) -> None:
    prompts = [[7] * 60, [5], [9] * 63, [4] * 50]
    found = generate(model, prompts, Settings(temperature=0, max_new_tokens=10))
    assert [(len(w.ids), w.reason) for w in found] == [
        (4, "context"), (10, "max_new_tokens"), (1, "context"), (10, "max_new_tokens")
    ]  # fmt: skip


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_neighbours_in_the_batch_change_nothing(model: LanguageModel, temperature: float) -> None:
    prompts = [p for p in PROMPTS for _ in range(2)]
    alone = [generate(model, [p], Settings(temperature=temperature, max_new_tokens=30), [EOS])[0] for p in prompts]
    for batch_size in (3, 4, 10):
        settings = Settings(temperature=temperature, max_new_tokens=30, batch_size=batch_size)
        assert generate(model, prompts, settings, [EOS]) == alone
        assert generate(model, prompts[::-1], settings, [EOS]) == alone[::-1]
    assert len({len(written.ids) for written in alone}) > 1 or temperature == 0, "no sequence left a batch early"


def test_seed_and_prompt_decide_the_draws(model: LanguageModel) -> None:
    found = {}
    for seed in (1, 2):
        for state in (5, 6):
            torch.manual_seed(state)
            found[seed, state] = generate(model, PROMPTS, Settings(seed=seed, temperature=1.0, top_k=0))
    assert found[1, 5] == found[1, 6] != found[2, 5] == found[2, 6]


def test_rows_without_a_token_are_never_drawn(model: LanguageModel) -> None:
    with torch.no_grad():
        old = model.lm_head.weight.clone()
        model.lm_head.weight[40:] = 10 * old[40:]
    try:
        for settings in (GREEDY, Settings(temperature=3.0, top_k=0), Settings(repetition_penalty=2.0, top_p=0.5)):
            limited = generate(model, PROMPTS, settings, num_tokens=40)
            free = generate(model, PROMPTS, settings)
            assert max(i for w in limited for i in w.ids) < 40 <= max(i for w in free for i in w.ids)
    finally:
        with torch.no_grad():
            model.lm_head.weight.copy_(old)


def test_tokens_come_as_they_are_drawn_and_a_caller_may_stop_a_sequence(model: LanguageModel) -> None:
    whole = generate(model, PROMPTS, GREEDY)
    found: dict[int, list[Drawn]] = {}
    stream = draw_tokens(model, PROMPTS, GREEDY, stopped=lambda index, token: index == 2 and len(found.get(2, [])) == 4)
    for drawn in stream:
        found.setdefault(drawn.number, []).append(drawn)
    for index, written in enumerate(whole):
        taken = 5 if index == 2 else 20
        assert [drawn.token for drawn in found[index]] == written.ids[:taken]
        last = "stop" if index == 2 else "max_new_tokens"
        assert [drawn.reason for drawn in found[index]] == [""] * (taken - 1) + [last]


def test_finished_sequences_leave_the_batch(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    read = MindLLM.hidden_states

    def spy(self: Any, input_ids: Any, *others: Any) -> Any:
        sizes.append(tuple(input_ids.shape))
        return read(self, input_ids, *others)

    monkeypatch.setattr(MindLLM, "hidden_states", spy)
    list(draw_tokens(model, [[3, 4], [5, 6], [7]], Settings(max_new_tokens=4), stopped=lambda index, token: index == 1))
    assert sizes == [(3, 2), (2, 1), (2, 1), (2, 1)]


def test_any_of_several_ends(model: LanguageModel) -> None:
    plain = generate(model, PROMPTS, GREEDY)[0].ids
    first = next(n for n, token in enumerate(plain) if token in plain[3:5])
    ended = generate(model, PROMPTS, GREEDY, plain[3:5])[0]
    assert ended.ids == plain[: first + 1] and ended.reason == "end"


def test_half_precision(pair: tuple[LanguageModel, Any]) -> None:
    ours, _ = pair
    with torch.autocast("cpu", torch.bfloat16):
        mixed = generate(ours, PROMPTS, GREEDY)
    half = generate(load_copy(ours).bfloat16(), PROMPTS, GREEDY)
    assert [len(w.ids) for w in mixed] == [len(w.ids) for w in half] == [20] * len(PROMPTS)


def load_copy(model: LanguageModel) -> LanguageModel:
    copy = (GPTNeo if isinstance(model.config, GPTNeoConfig) else MindLLM)(model.config)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def test_bad_prompts_and_damaged_weights(model: LanguageModel) -> None:
    assert generate(model, [], GREEDY) == []
    with pytest.raises(UserError, match="prompt 1 has 64 tokens; the model reads 64"):
        generate(model, [[1], [1] * 64], GREEDY)
    with pytest.raises(UserError, match="prompt 0 has 0 tokens"):
        generate(model, [[]], GREEDY)
    damaged = load_copy(model)
    with torch.no_grad():
        damaged.lm_head.weight[5] = torch.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(RuntimeError, match="nan"):
            generate(damaged, PROMPTS, Settings(temperature=temperature, top_k=0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_as_on_the_cpu(pair: tuple[LanguageModel, Any]) -> None:
    ours = load_copy(pair[0])
    for settings in (GREEDY, Settings(temperature=1.0, top_k=10, top_p=0.9, repetition_penalty=1.2)):
        assert generate(load_copy(ours).cuda(), PROMPTS, settings, [EOS]) == generate(ours, PROMPTS, settings, [EOS])
