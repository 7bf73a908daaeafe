"""eval.harness.model: every number and text is lm-eval's own, item by item, for whatever a task may ask."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_export
import tokenizers
import torch
import transformers
from hf_folders import new_model
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval import evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from safetensors.torch import load_file, save_file

from eval.harness.model import SharedPrefixLM
from eval.harness.quiet import quiet, without_bars
from mindllm.config import UserError

ROOT = Path(__file__).resolve().parent.parent
POSITIONS = 160
ZH, HANT, EN = "春天来了，河边的柳树发芽了。\n", "海上的船越走越遠，風很涼。\n", "The river runs past the old mill.\n"
SHOTS = {"zh": f"问题：{ZH}答案：A\n\n", "hant": f"問題：{HANT}答案：B\n\n", "en": f"Question: {EN}Answer: C\n\n"}
PAIRS = [  # (context, continuation)
    *itertools.product([SHOTS["zh"] * 2 + f"问题：{q}答案：" for q in (ZH, "茶？\n")], "ABCD"),
    *itertools.product([SHOTS["en"] + f"Question: {q}Answer:" for q in (EN, "Tea?\n")], (" A", " B", " C")),
    *itertools.product([SHOTS["hant"] + HANT], ("老人坐在門口，慢慢地喝茶。", "海上的船", "船")),
    *itertools.product([SHOTS["en"] + "A small boat"], (" lies in the harbour.", " runs past the mill.", " stopped")),
    *itertools.product(("",), (ZH, EN, HANT, "A")),
    *itertools.product((EN * 12, ZH * 12), (" The rain stopped before noon.", "秋天的风", "x")),  # too long
    ("The rain  ", "stopped"), ("春天 ", "来了"), ("A", " A"), ("A", " A"), ("<eos>" + EN, "x"), (EN + "\n\n", "\n"),
]  # fmt: skip
TEXTS = [ZH * 9, EN * 7, "", "茶", HANT + EN, "<eos>The rain"]
WINDOWS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 7},
    "gpt_neo": {"window_size": 9, "initializer_range": 0.4, "tie_word_embeddings": False},
}


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.WARNING)
    with quiet(), without_bars():
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Exported folders of several classes with one tokenizer."""
    root = tmp_path_factory.mktemp("models")
    llama = root / "llama"
    tiny_export.write_export(llama, POSITIONS)
    size = transformers.AutoConfig.from_pretrained(llama).vocab_size
    for name in ("minimax", "gpt_neo", "mistral"):
        shutil.copytree(llama, root / name)
        model = new_model(name, vocab_size=size, max_position_embeddings=POSITIONS, **WINDOWS.get(name, {}))
        if name == "gpt_neo":
            model.apply(model._init_weights)  # with biases it writes one token for ever
        model.save_pretrained(root / name)
    return {path.name: str(path) for path in root.iterdir()}


def both(folder: str, batch_size: int = 1, **options: Any) -> tuple[HFLM, SharedPrefixLM]:
    """lm-eval's own model, and ours."""
    options = {"device": "cpu", "dtype": "float32", "batch_size": batch_size, **options}
    return HFLM(folder, **options), SharedPrefixLM(folder, batch_tokens=48, **options)


def instances(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, one, i) for i, one in enumerate(arguments)]


def assert_equal_scores(pair: tuple[HFLM, SharedPrefixLM], texts: list[tuple[str, str]]) -> None:
    requests = instances("loglikelihood", *texts)
    theirs, ours = (lm.loglikelihood(requests, disable_tqdm=True) for lm in pair)
    for (_, continuation), a, b in zip(texts, theirs, ours, strict=True):
        assert abs(a[0] - b[0]) <= 1e-4 * max(1, len(pair[1].tok_encode(continuation)))
        assert a[1] == b[1] and type(b[0]) is float and type(b[1]) is bool


@pytest.mark.parametrize(
    ("name", "batch_size"), [("llama", 1), ("llama", 4), ("minimax", 1), ("gpt_neo", 3), ("mistral", 2)]
)
def test_log_likelihoods(folders: dict[str, str], name: str, batch_size: int) -> None:
    pair = both(folders[name], batch_size)
    assert (pair[1].scorer.rows is None) == (name == "mistral")
    assert_equal_scores(pair, PAIRS)
    theirs, ours = (lm.loglikelihood_rolling(instances("r", *((t,) for t in TEXTS)), True) for lm in pair)
    assert ours == pytest.approx(theirs, abs=1e-3) and ours[2] == 0


@pytest.fixture(scope="module")
def llamas(folders: dict[str, str]) -> tuple[HFLM, SharedPrefixLM]:
    return both(folders["llama"])


words = st.lists(
    st.sampled_from(["春天", "老人", "遠", "A", " ", "\n", " the", "mill", "<eos>", "。", "z"]), max_size=8
).map("".join)


@settings(max_examples=25)
@given(texts=st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_any_texts_are_parted_as_lm_eval_parts_them(
    llamas: tuple[HFLM, SharedPrefixLM], texts: list[tuple[str, str]]
) -> None:
    theirs, ours = llamas
    for context, continuation in texts:
        if not context:
            ids = theirs.tok_encode(continuation, add_special_tokens=False)
            own = ids[:1] == [theirs.prefix_token_id]
            expected = (ids[:1], ids[1:]) if own else ([theirs.prefix_token_id], ids)
        else:
            expected = theirs._encode_pair(context, continuation)
            expected = (expected[0] or [theirs.prefix_token_id], expected[1])
        if not expected[1]:
            with pytest.raises(UserError, match="0 tokens of its own"):
                ours.encode_pairs([(context, continuation)])
        else:
            [found] = ours.encode_pairs([(context, continuation)])
            assert tuple(part.tolist() for part in found) == expected


def begun_tokenizer() -> Any:
    """Words and characters, and a token <s> that the tokenizer puts first unless told not to."""
    known = ["<s>", "</s>", "<unk>", "A", "B", "C", "tea", "boat", "茶", "船", "遠", "：", "\n", " "]
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(known)}, "<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("tea|boat|."), "isolated")
    inner.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("options", [{}, {"add_bos_token": True}, {"add_bos_token": False}, {"prefix_token_id": 5}])
def test_tokenizers_that_begin_texts_themselves(options: dict[str, Any]) -> None:
    made = {"tokenizer": begun_tokenizer(), "batch_size": 1, **options}
    model = new_model("llama")
    pair = HFLM(model, **made), SharedPrefixLM(model, batch_tokens=16, **made)
    texts = [
        ("tea：", "A"),
        ("tea：", "B"),
        ("", "茶船"),
        ("<s>tea", "茶"),
        ("", "<s>A"),
        ("船 ", "遠"),
        ("茶\n" * 40, "boat"),
    ]
    assert_equal_scores(pair, texts)
    theirs, ours = (lm.loglikelihood_rolling(instances("r", ("tea茶",), ("<s>船" * 30,)), True) for lm in pair)
    assert ours == pytest.approx(theirs, abs=1e-3)
    wanted = {"until": ["茶"], "max_gen_toks": 6}
    written = (lm.generate_until(instances("g", ("tea：", wanted), ("<s>船", wanted)), True) for lm in pair)
    assert next(written) == next(written)


def test_answers_that_cannot_be_asked_for(llamas: tuple[HFLM, SharedPrefixLM]) -> None:
    ours = llamas[1]
    for pair, reason in ((("A", ""), "0 tokens of its own"), (("", EN * 20), "1 to 160")):
        with pytest.raises(UserError, match=reason):
            ours.loglikelihood(instances("loglikelihood", ("A", "B"), pair), disable_tqdm=True)


def test_weights_that_are_not_there_are_not_drawn(folders: dict[str, str], tmp_path: Path) -> None:
    """transformers loads such a folder and says so in a log; its scores would be those of chance."""
    folder = tmp_path / "llama"
    shutil.copytree(folders["llama"], folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="1 of its weights are not in its files.*up_proj"):
        SharedPrefixLM(str(folder), device="cpu")


def test_one_text_parted_twice(llamas: tuple[HFLM, SharedPrefixLM]) -> None:
    """lm-eval keeps these two as one and reads the shorter one's numbers at the wrong tokens; ours are those alone."""
    texts = [("海上的船", "越走越遠"), ("海上的船越走", "越遠")]
    together, ours = (lm.loglikelihood(instances("l", *texts), disable_tqdm=True) for lm in llamas)
    one_by_one = [llamas[0].loglikelihood(instances("l", text), disable_tqdm=True)[0] for text in texts]
    assert [b[0] for b in ours] == pytest.approx([a[0] for a in one_by_one], abs=1e-4)
    assert together[0][0] == pytest.approx(ours[0][0], abs=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt_neo", "minimax", "mistral"])
def test_texts_written(folders: dict[str, str], name: str) -> None:
    pair = both(folders[name])
    stops = ({"until": ["\n", "。", "th"]}, {"until": "a"}, {"until": []}, {"until": ["<eos>"], "do_sample": False})
    prompts = [*TEXTS[:2], SHOTS["zh"] + ZH, SHOTS["zh"] + HANT, SHOTS["zh"] + ZH, EN, "茶"]
    arguments = [(p, {**s, "max_gen_toks": 24}) for s in stops for p in prompts]
    arguments += [
        ("船", {"until": ["\n"], "max_gen_toks": 8, "num_beams": 2}),
        ("船", {"max_gen_toks": 3, "temperature": 0.0}),
    ]
    theirs, ours = (lm.generate_until(instances("generate_until", *arguments), True) for lm in pair)
    assert ours == theirs
    assert len({character for text in theirs for character in text}) > 5


def test_what_is_more_than_greedy_goes_lm_evals_way(llamas: tuple[HFLM, SharedPrefixLM], monkeypatch: Any) -> None:
    theirs, ours = llamas
    sampled = {"do_sample": True, "temperature": 0.7, "max_gen_toks": 9}
    found = []
    for lm in (theirs, ours):
        torch.manual_seed(4)
        found.append(lm.generate_until(instances("g", ("春天", sampled), ("The", sampled)), True))
    assert found[0] == found[1]
    with monkeypatch.context() as patch:
        for lm in (theirs, ours):
            patch.setattr(lm.model.generation_config, "repetition_penalty", 5.0)
        plain = {"max_gen_toks": 20}
        written = [lm.generate_until(instances("g", ("春天", plain), (EN, plain)), True) for lm in (theirs, ours)]
    assert written[0] == written[1] != ours.generate_until(instances("g", ("春天", plain), (EN, plain)), True)


def test_too_long_to_write(llamas: tuple[HFLM, SharedPrefixLM]) -> None:
    with pytest.raises(UserError, match="max_gen_toks: 160"):
        llamas[1].generate_until(instances("g", ("A", {"max_gen_toks": 160})), True)


def test_results_go_into_lm_evals_cache(llamas: tuple[HFLM, SharedPrefixLM], monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[str, Any]] = []

    class Hook:
        def add_partial(self, kind: str, arguments: Any, result: Any) -> None:
            kept.append((kind, arguments))

    ours = llamas[1]
    monkeypatch.setattr(ours, "cache_hook", Hook())
    options = {"until": ["\n"], "max_gen_toks": 4}
    ours.loglikelihood(instances("l", ("A", "B")), disable_tqdm=True)
    ours.loglikelihood_rolling(instances("r", (EN,)), disable_tqdm=True)
    ours.generate_until(instances("g", ("A", options)), disable_tqdm=True)
    assert kept == [("loglikelihood", ("A", "B")), ("loglikelihood_rolling", (EN,)), ("generate_until", ("A", options))]


def test_chat_templates_and_names_are_lm_evals(llamas: tuple[HFLM, SharedPrefixLM]) -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    found = []
    for lm in llamas:
        lm.tokenizer.chat_template = template
        found.append(
            (lm.apply_chat_template([{"role": "user", "content": "茶?"}]), lm.tokenizer_name, lm.chat_template(True))
        )
        lm.tokenizer.chat_template = None
    assert found[0] == found[1] and found[0][0] == "<user>茶?"


@pytest.mark.parametrize("name", ["llama", "gpt_neo"])
def test_the_mini_tasks_item_by_item(folders: dict[str, str], name: str) -> None:
    folder = ROOT / "eval" / "tasks" / "mini"
    results = []
    for lm in both(folders[name], 4):
        tasks = TaskManager(include_path=str(folder), include_defaults=False).load(["mini"])
        results.append(evaluate(lm, tasks, limit=12, bootstrap_iters=0, log_samples=True))
    theirs, ours = results
    assert len(theirs["samples"]) == 6
    for task, samples in theirs["samples"].items():
        for a, b in zip(samples, ours["samples"][task], strict=True):
            numbers = [
                [float(x) for r in s["filtered_resps"] for x in (r if isinstance(r, tuple | list) else [r])]
                for s in (a, b)
            ]
            assert numbers[1] == pytest.approx(numbers[0], rel=1e-5, abs=1e-3)
            assert a.get("acc") == b.get("acc") and a.get("acc_norm") == b.get("acc_norm")
