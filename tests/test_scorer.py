"""eval.scorer: one forward pass a request and the scorer agree, for any requests, order, pass size and architecture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from hf_folders import CONFIGS, new_model
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scorer import Scorer
from eval.scorer.cache import RowCache
from eval.scorer.row_model import RowModel
from eval.scorer.score import lay_out, wanted
from eval.scorer.tree import Pass, build_tree, common, passes
from eval.scorer.write import write_greedy
from mindllm.config import RunFailed

VOCABULARY, POSITIONS = 40, 64
SMALL = {"vocab_size": VOCABULARY, "initializer_range": 0.3}
SIZED = {**SMALL, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 2, "max_position_embeddings": POSITIONS}  # fmt: skip
OTHERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "neo": (hf.GPTNeoConfig, {**CONFIGS["gpt_neo-untied"][1], "initializer_range": 0.4}),  # writes various tokens
    "gpt2": (hf.GPT2Config, {**SMALL, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS}),
    "gpt_neox": (hf.GPTNeoXConfig, SIZED),
    "opt": (hf.OPTConfig, {"vocab_size": VOCABULARY, "hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 32,
                           "num_hidden_layers": 2, "num_attention_heads": 2, "init_std": 0.3,
                           "max_position_embeddings": POSITIONS}),
}  # fmt: skip
CHANGING_ROPE = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}}
UNSHARED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "window": (hf.MistralConfig, {**SIZED, "sliding_window": 7}, "look back 7 positions"),
    "mixed": (hf.Gemma2Config, {**SIZED, "head_dim": 8, "sliding_window": 7}, "look back 7 positions"),
    "linear": (hf.MiniMaxConfig, {**SIZED, "head_dim": 8, "num_local_experts": 1, "num_experts_per_tok": 1,
                                  "layer_types": ["linear_attention", "full_attention"]}, "layers of linear_attention"),
    "rope": (hf.LlamaConfig, {**SIZED, **CHANGING_ROPE}, "change with the length (dynamic)"),
    "alibi": (hf.BloomConfig, {**SMALL, "hidden_size": 16, "n_layer": 2, "n_head": 2}, "takes no position_ids"),
    "recurrent": (hf.MambaConfig, {**SMALL, "hidden_size": 16, "num_hidden_layers": 2}, "takes no position_ids"),
}  # fmt: skip
Request = tuple[list[int], list[int]]


def other_model(kind: Any, values: dict[str, Any]) -> Any:
    torch.manual_seed(3)
    return hf.AutoModelForCausalLM.from_config(kind(**values)).eval()


def model_of(name: str) -> Any:
    return other_model(*OTHERS[name]) if name in OTHERS else new_model(name)


def alone(model: Any, request: Request, max_length: int = POSITIONS) -> tuple[float, bool]:
    """One forward pass over one request, as in a textbook."""
    context, continuation = request
    tokens = torch.tensor((context + continuation)[-(max_length + 1) :])
    with torch.no_grad():
        logprobs = model(tokens[None, :-1]).logits[0].log_softmax(-1)[-len(continuation) :]
    target = torch.tensor(continuation)
    return logprobs.gather(1, target[:, None]).sum().item(), bool((logprobs.argmax(-1) == target).all())


def assert_same(scorer: Scorer, requests: Sequence[Request], max_length: int = POSITIONS) -> None:
    found = scorer.score(requests)
    for request, one in zip(requests, found, strict=True):
        logprob, greedy = alone(scorer.model, request, max_length)
        assert abs(one.logprob - logprob) < 1e-4 * len(request[1])
        assert one.greedy == greedy


def few_shot_requests() -> list[Request]:
    """Questions after a common beginning, each with answers of several lengths, and whatever else may come."""
    random = np.random.default_rng(5)
    examples = random.integers(3, VOCABULARY, 25).tolist()
    requests: list[Request] = []
    for i in range(5):
        question = examples[: 25 - 3 * (i == 2)] + random.integers(3, VOCABULARY, 2 + 3 * i).tolist()
        requests += [(question, random.integers(3, VOCABULARY, n).tolist()) for n in (1, 1, 4, 9)]
    requests += [requests[3], (examples * 4, examples[:2]), (examples[:1], examples * 2), ([5], [5])]
    return [*requests, (examples[:9], examples[9:12]), (examples[:10], examples[10:12])]  # one text, parted twice


@pytest.mark.parametrize("name", [*CONFIGS, *OTHERS])
def test_architectures_that_share(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of(name)
    scorer = Scorer(model, POSITIONS)
    assert scorer.rows is not None, scorer.reason
    for scorer.max_tokens in (7, 30, 1000):
        assert_same(scorer, few_shot_requests())
    assert capsys.readouterr().err == ""
    plain = model(torch.arange(12)[None]).logits  # the model is as it was: no cache, no mask, no attention of ours
    assert torch.equal(plain, model_of(name)(torch.arange(12)[None]).logits)


@pytest.mark.parametrize("name", UNSHARED)
def test_architectures_that_cannot_share_are_scored_one_by_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind, values, reason = UNSHARED[name]
    scorer = Scorer(other_model(kind, values), POSITIONS, 40)
    said = capsys.readouterr().err
    assert scorer.rows is None and "WITHOUT shared prefixes" in said and reason in said and said.count("\n") == 1
    if name == "rope":  # rotary positions depend on the longest row of a batch, in lm-eval, too
        scorer = Scorer(other_model(kind, values), POSITIONS, 1)
    assert_same(scorer, few_shot_requests())


def test_a_window_no_shorter_than_the_context_is_none() -> None:
    scorer = Scorer(other_model(hf.MistralConfig, {**SIZED, "sliding_window": 20}), 20, 16)
    assert scorer.rows is not None
    assert_same(scorer, few_shot_requests()[:8], 20)


@pytest.mark.parametrize(
    ("name", "parted"), [("llama", True), ("gpt_neo", True), ("minimax", True), ("granite", False)]
)
def test_the_head_waits_for_other_passes_only_where_nothing_follows_it(name: str, parted: bool) -> None:
    scaled = {**SIZED, "logits_scaling": 0.25}
    model = other_model(hf.GraniteConfig, scaled) if name == "granite" else new_model(name)
    scorer = Scorer(model, POSITIONS, 9)
    assert scorer.rows is not None and scorer.rows.parted == parted
    assert_same(scorer, few_shot_requests())


def test_a_model_that_ignores_the_mask_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    model = new_model("llama")
    forward = model.model.forward
    model.model.forward = lambda *a, attention_mask=None, **k: forward(*a, attention_mask=None, **k)
    assert Scorer(model, POSITIONS).rows is None
    assert "computes other log-probabilities" in capsys.readouterr().err


@pytest.fixture(scope="module")
def scorers() -> dict[str, Scorer]:
    return {name: Scorer(new_model(name), 24, 8) for name in ("llama", "gpt_neo")}


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=14)  # few ids: much is shared by chance
requests_of_few_ids = st.lists(st.tuples(tokens, tokens), min_size=1, max_size=8)


@settings(max_examples=40)
@given(requests=requests_of_few_ids, max_tokens=st.integers(1, 40), name=st.sampled_from(["llama", "gpt_neo"]))
def test_any_requests(scorers: dict[str, Scorer], requests: list[Request], max_tokens: int, name: str) -> None:
    scorers[name].max_tokens = max_tokens
    assert_same(scorers[name], requests, 24)


@settings(max_examples=20)
@given(requests=requests_of_few_ids, random=st.randoms(use_true_random=False))
def test_the_order_of_requests_does_not_matter(
    scorers: dict[str, Scorer], requests: list[Request], random: Any
) -> None:
    shuffled = list(range(len(requests)))
    random.shuffle(shuffled)
    found = scorers["llama"].score(requests)
    again = scorers["llama"].score([requests[i] for i in shuffled])
    for i, one in zip(shuffled, again, strict=True):
        assert abs(one.logprob - found[i].logprob) < 1e-5 * len(requests[i][1]) and one.greedy == found[i].greedy


def replay(rows: list[np.ndarray], counts: list[int], max_tokens: int) -> Iterator[tuple[Pass, list[tuple[int, ...]]]]:
    """Every pass, with the sequence of tokens that each of its tokens sees, itself last."""
    full = [np.append(row, 0) for row in rows]
    cache: list[int] = []
    for one in passes(build_tree(rows, counts), max_tokens):
        inputs = lay_out(one, full)
        del cache[one.keep :]
        seen = []
        for j in range(len(inputs.tokens)):
            own = [int(inputs.tokens[i]) for i in range(j + 1) if j < inputs.ends[i]]
            seen.append((*cache, *own))
            assert len(seen[-1]) == inputs.positions[j] + 1
        cache += inputs.tokens.tolist()
        yield one, seen


@given(lists=st.lists(tokens, min_size=1, max_size=12), max_tokens=st.integers(1, 30), data=st.data())
def test_every_beginning_is_run_and_every_token_scored_once(
    lists: list[list[int]], max_tokens: int, data: st.DataObject
) -> None:
    rows = [np.array(row, dtype=np.int32) for row in lists]
    counts = [data.draw(st.integers(1, len(row))) for row in rows]
    run: list[tuple[int, ...]] = []
    scored: list[tuple[int, tuple[int, ...]]] = []
    for one, seen in replay(rows, counts, max_tokens):
        assert 0 < len(seen) <= max_tokens
        run += seen
        where, _, requests = wanted(one, [np.append(row, 0) for row in rows])
        scored += [(int(r), seen[w]) for w, r in zip(where, requests, strict=True)]
    beginnings = {tuple(row[: i + 1]) for row in lists for i in range(len(row))}
    assert set(run) == beginnings
    assert len(run) <= 1.3 * len(beginnings)  # a few are cheaper to repeat than to keep
    assert sorted(scored) == sorted(
        (r, tuple(row[: i + 1]))
        for r, (row, n) in enumerate(zip(lists, counts, strict=True))
        for i in range(len(row) - n, len(row))
    )


def test_a_shared_prefix_is_run_once_and_questions_fill_the_passes() -> None:
    prefix = list(range(50))
    rows = [np.array([*prefix, 100 + i, 101, 102, 103, 200 + c]) for i in range(20) for c in range(4)]
    sizes = [(one.keep, sum(p.last - p.first for p in one.pieces)) for one in passes(build_tree(rows, [1] * 80), 32)]
    assert sizes == [(0, 25), (25, 25), *[(50, 32)] * 5]  # 20 questions of 4 tokens, each with 4 answers of one


def test_common() -> None:
    a = np.array([1, 2, 3])
    assert [common(a, np.array(b)) for b in ([1, 2, 3, 4], [1, 2], [1, 3, 3], [2])] == [3, 2, 1, 0]


def test_one_token_vocabularies_and_answers() -> None:
    model = other_model(hf.LlamaConfig, {**SIZED, "vocab_size": 1})
    assert Scorer(model, POSITIONS).score([([0], [0]), ([0, 0], [0, 0, 0])]) == [(0.0, True)] * 2
    scorer = Scorer(new_model("llama"), POSITIONS)
    total = np.exp([one.logprob for one in scorer.score([([3, 4, 5], [t]) for t in range(VOCABULARY)])])
    assert abs(total.sum() - 1) < 1e-5
    assert sum(one.greedy for one in scorer.score([([3, 4, 5], [t]) for t in range(VOCABULARY)])) == 1
    assert scorer.score([]) == []


def test_of_equally_likely_tokens_the_first_is_the_greedy_one() -> None:
    model = new_model("llama")
    torch.nn.init.zeros_(model.lm_head.weight)
    found = Scorer(model, POSITIONS).score([([1, 2], [0]), ([1, 2], [1])])
    assert [one.greedy for one in found] == [True, False]


def test_requests_that_cannot_be_scored() -> None:
    scorer = Scorer(new_model("llama"), 8)
    for request in (([], [1]), ([1], []), ([1], [2] * 9)):
        with pytest.raises(ValueError, match="request 1"):
            scorer.score([([1], [2]), request])
    assert_same(scorer, [([1], [2] * 8), ([3] * 20, [4] * 8)], 8)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_model_that_computes_no_numbers_has_no_scores(name: str) -> None:
    """Of nothing but nan the first is picked, which would look like an accuracy at chance."""
    model = new_model(name, **({"sliding_window": 5} if name == "mistral" else {}))
    scorer, rows = Scorer(model, POSITIONS), RowModel(model)
    torch.nn.init.constant_(model.model.embed_tokens.weight[7], float("nan"))
    assert len(scorer.score([([3, 4], [5])])) == 1
    with pytest.raises(RunFailed, match="no numbers"):
        scorer.score([([3, 4], [5]), ([3, 7], [5])])
    if scorer.rows:
        with pytest.raises(RunFailed, match="no numbers"):
            write_greedy(rows, [[3, 4], [3, 7]], 2, lambda _: False)
    torch.nn.init.constant_(model.model.embed_tokens.weight, float("nan"))
    if scorer.rows:
        with pytest.raises(RunFailed, match="no numbers"):
            Scorer(model, POSITIONS)


def test_progress_counts_every_scored_token() -> None:
    seen: list[int] = []
    for name in ("llama", "mistral"):
        scorer = Scorer(new_model(name, **({"sliding_window": 5} if name == "mistral" else {})), POSITIONS, 16)
        seen.clear()
        scorer.score(few_shot_requests(), seen.append)
        assert sum(seen) == sum(len(continuation) for _, continuation in few_shot_requests())


@pytest.mark.parametrize("name", ["llama", "gpt_neo"])
def test_half_precision_is_near(name: str) -> None:
    requests = few_shot_requests()
    exact = Scorer(new_model(name), POSITIONS, 30).score(requests)
    scorer = Scorer(new_model(name).bfloat16(), POSITIONS, 30)
    assert scorer.rows is not None, scorer.reason
    for request, a, b in zip(requests, exact, scorer.score(requests), strict=True):
        assert abs(a.logprob - b.logprob) < 0.3 * len(request[1])


def test_the_cache_grows_and_forgets() -> None:
    cache = RowCache()
    keys = torch.arange(3000.0).view(1, 1, 3000, 1)
    cache.update(keys[:, :, :1000], -keys[:, :, :1000], 0)
    cache.keep(500)
    found, values = cache.update(keys[:, :, 500:3000], -keys[:, :, 500:3000], 0)
    assert torch.equal(found, keys) and torch.equal(values, -keys)
    assert cache.get_seq_length() == 3000
    with pytest.raises(AssertionError, match="never written"):
        cache.keep(3001)


PROMPTS = [[7, 8, 9, 10, 11], [7, 8, 9], [7, 8, 9, 12], [7, 8, 9, 10, 11], [20], [7, 8, 30, 31, 32, 33, 34, 35, 36]]


@pytest.mark.parametrize("name", ["llama", "neo", "minimax", "gpt2"])
@pytest.mark.parametrize("num_rows", [1, 3, 8])
def test_writing_is_what_transformers_writes(name: str, num_rows: int) -> None:
    model = model_of(name)
    model.generation_config.eos_token_id = None
    expected = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, pad_token_id=2
        )
        expected.append(out[0, len(prompt) :].tolist())
    assert len({token for text in expected for token in text}) > 5
    rows = RowModel(model, 4)
    assert write_greedy(rows, PROMPTS, 20, lambda _: False, num_rows) == expected
    stops = [text[:6] for text in expected]
    assert write_greedy(rows, PROMPTS, 20, lambda ids: ids in stops, num_rows) == stops
    assert write_greedy(rows, PROMPTS, 1, lambda _: True, num_rows) == [text[:1] for text in expected]


def test_nothing_to_write() -> None:
    rows = RowModel(new_model("llama"))
    assert write_greedy(rows, [], 5, lambda _: False) == []
    assert write_greedy(rows, [[1]], 0, lambda _: False) == [[]]
    with pytest.raises(ValueError, match="empty prompt"):
        write_greedy(rows, [[1], []], 5, lambda _: False)
