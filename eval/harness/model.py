"""lm-eval's own `hf` model with our scorer inside: the same tokens in, the same numbers out, several times faster.

Loading, tokenization, truncation, prefix tokens and chat templates are lm-eval's, by inheritance, so that they stay the
same when it changes. New: texts are encoded in batches, and equal ones once; log-likelihoods come from
eval.scorer; greedy writing shares prompts' beginnings, too. What asks for more than greedy writing, and models that
cannot share, go lm-eval's own way. Memory: 4 bytes a token of all requests, and what the scorer says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lm_eval import utils
from lm_eval.api import model as lm_eval_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)

from eval.scorer import Scorer
from eval.scorer.write import write_greedy
from mindllm.config import UserError

_PAIRS, _TEXTS = 2048, 512  # encoded at a time
_PLAIN_REQUEST = {"until", "max_gen_toks", "do_sample", "temperature"}  # all that greedy writing listens to
_NEUTRAL: dict[str, tuple[Any, ...]] = {  # settings of a model's generation_config.json that change greedy writing
    **dict.fromkeys(
        "bad_words_ids begin_suppress_tokens dola_layers exponential_decay_length_penalty forced_bos_token_id "
        "forced_eos_token_id max_new_tokens max_time penalty_alpha prompt_lookup_num_tokens sequence_bias stop_strings "
        "suppress_tokens watermarking_config".split(), (None,)
    ),
    **dict.fromkeys("repetition_penalty encoder_repetition_penalty guidance_scale num_beams".split(), (None, 1)),
    **dict.fromkeys("min_length min_new_tokens no_repeat_ngram_size encoder_no_repeat_ngram_size".split(), (None, 0)),
    "remove_invalid_values": (None, False),
}  # fmt: skip


class Stops(NamedTuple):
    """When a continuation is at its end: ids of end tokens, and texts by how many last tokens are searched for them."""

    ids: set[int]
    texts: dict[int, list[str]]


class _Whole:
    """A transformers class that loads models with all of their weights or not at all."""

    def __init__(self, kind: Any):
        self.kind = kind

    def from_pretrained(self, folder: str, **options: Any) -> Any:
        model, info = self.kind.from_pretrained(folder, output_loading_info=True, **options)
        lost = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        if lost:
            raise UserError(f"{folder}: {len(lost)} of its weights are not in its files, or of another size: {lost[0]}")
        return model


class SharedPrefixLM(HFLM):
    """lm-eval's HFLM for causal models, with shared prefixes computed once; takes all of its options, too."""

    def __init__(self, pretrained: Any, batch_tokens: int | None = None, **options: Any) -> None:
        """pretrained: a folder, or a transformers model (then `tokenizer` must be given).

        batch_tokens: tokens a pass of the scorer; None: 256 on a CPU, 4,096 on a GPU.
        options: of HFLM; ours by default: a GPU if there is one, float32. `batch_size` is for what goes HFLM's own way.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(pretrained, **{"device": device, "dtype": "float32", **options})
        if self.backend != "causal":
            raise UserError(f"{pretrained}: the scorer is for causal language models, this one is {self.backend}")
        if self.mixed_precision_dtype is not None:
            raise UserError("mixed_precision_dtype: the scorer computes in the model's own type; set dtype instead")
        self.scorer = Scorer(self.model, self.max_length, batch_tokens)

    def _create_model(self, *arguments: Any, **options: Any) -> None:
        """As HFLM; raises UserError where files lack weights, which transformers would draw and mention in a log."""
        kind: Any = vars(self)["AUTO_MODEL_CLASS"]
        self.AUTO_MODEL_CLASS: Any = _Whole(kind)
        super()._create_model(*arguments, **options)
        self.AUTO_MODEL_CLASS = kind

    def tok_batch(
        self, texts: Iterable[str], begin: str | None = None, special: bool | None = None
    ) -> dict[str, np.ndarray]:
        """Token ids (int32) of each distinct text. slow: 1 to 5 MB of text a second and core.

        begin: texts that begin with this get no special tokens.  special: whether others do; None: as the model asks.
        """
        unique = list(dict.fromkeys(texts))
        begun = [text for text in unique if has_bos_prefix(text, begin)]
        wanted = self.add_bos_token if special is None else special
        options = {} if wanted is None else {"add_special_tokens": wanted}
        found = self._encode(begun, {"add_special_tokens": False})
        return found | self._encode([text for text in unique if text not in found], options)

    def _encode(self, texts: list[str], options: dict[str, bool]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for at in range(0, len(texts), _TEXTS):
            part = texts[at : at + _TEXTS]
            ids = self.tokenizer(part, return_attention_mask=False, verbose=False, **options)["input_ids"]
            found.update((text, np.array(row, dtype=np.int32)) for text, row in zip(part, ids, strict=True))
        return found

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(context ids, continuation ids) of text pairs by lm-eval's rules: encoded as one text and parted after as
        many tokens as the context alone has; spaces at the end of a context belong to the continuation; an empty
        context is the prefix token. Raises UserError where a continuation is left without a token."""
        found = [ids for at in range(0, len(pairs), _PAIRS) for ids in self._encode_some(pairs[at : at + _PAIRS])]
        for (context, text), (_, continuation) in zip(pairs, found, strict=True):
            if not len(continuation) or len(continuation) > self.max_length:
                raise UserError(
                    f"the answer {text[:80]!r} after {context[-40:]!r} has {len(continuation)} tokens of its own; this "
                    f"model can be asked for 1 to {self.max_length}: leave the task out, or change how it is written"
                )
        return found

    def _encode_some(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        moved = [_move_spaces(*pair) for pair in pairs]
        alone = self.tok_batch((text for context, text in pairs if not context), special=False)
        together = [text for (given, _), (c, t) in zip(pairs, moved, strict=True) if given for text in (c, c + t)]
        whole = self.tok_batch(together, begin=self._prefix_text)
        prefix = np.array([self.prefix_token_id], dtype=np.int32)
        for (given, text), (c, t) in zip(pairs, moved, strict=True):
            if given:
                context = whole[c]  # none for nothing but spaces, where lm-eval stops
                yield (context if len(context) else prefix), whole[c + t][len(context) :]
            else:
                ids = alone[text]
                yield (ids[:1], ids[1:]) if len(ids) and ids[0] == prefix[0] else (prefix, ids)

    @property
    def _prefix_text(self) -> str:
        return str(self.tokenizer.decode(self.prefix_token_id))

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability, greedy) of each request's (context, continuation), as HFLM gives them."""
        if self.enable_thinking:
            return super().loglikelihood(requests, disable_tqdm)  # refuses
        pairs = [request.args for request in requests]
        encoded = self.encode_pairs(pairs)
        return self._loglikelihood_tokens(
            [(pair, *ids) for pair, ids in zip(pairs, encoded, strict=True)], disable_tqdm=disable_tqdm
        )

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, Any, Any]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """(log-probability, greedy) of each (texts or None, context ids, continuation ids)."""
        total = sum(len(continuation) for _, _, continuation in requests)
        bar = lm_eval_model.tqdm(total=total, disable=disable_tqdm or self.rank != 0, desc="Scoring tokens")
        scored = self.scorer.score([(context, text) for _, context, text in requests], bar.update)
        found = [(one.logprob, one.greedy) for one in scored]
        bar.close()
        for (texts, _, _), answer in zip(requests, found, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of each request's whole text, in HFLM's windows of the model's length."""
        texts = [request.args[0] for request in requests]
        encoded = self.tok_batch(texts, begin=self._prefix_text)
        windows = [(i, window) for i, text in enumerate(texts) for window in self._windows(encoded[text].tolist())]
        scored = self._loglikelihood_tokens([(None, *window) for _, window in windows], disable_tqdm=disable_tqdm)
        totals = [0.0] * len(texts)
        for (i, _), (logprob, _) in zip(windows, scored, strict=True):
            totals[i] += logprob
        for text, value in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), value)
        return totals

    def _windows(self, ids: list[int]) -> Iterable[tuple[list[int], list[int]]]:
        windows = utils.get_rolling_token_windows(
            token_list=ids, prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
        )
        return map(utils.make_disjoint_window, windows)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each request's text until a stop text, as HFLM with a batch size of 1."""
        found: dict[int, str] = {}
        groups: dict[str, list[int]] = {}
        prompts = self.tok_batch((request.args[0] for request in requests), begin=self.tokenizer.bos_token)
        for i, request in enumerate(requests):
            if self._is_plain(request.args[1]) and len(prompts[request.args[0]]):
                groups.setdefault(repr(sorted(request.args[1].items())), []).append(i)
        bar = lm_eval_model.tqdm(total=len(requests), disable=disable_tqdm or self.rank != 0, desc="Writing")
        for chosen in groups.values():
            texts = self._write([prompts[requests[i].args[0]] for i in chosen], requests[chosen[0]].args[1], bar)
            found.update(zip(chosen, texts, strict=True))
        bar.close()
        for i, text in found.items():
            self.cache_hook.add_partial("generate_until", requests[i].args, text)
        rest = [i for i in range(len(requests)) if i not in found]
        found.update(zip(rest, super().generate_until([requests[i] for i in rest], disable_tqdm), strict=True))
        return [found[i] for i in range(len(requests))]

    def _is_plain(self, options: dict[str, Any]) -> bool:
        """Whether this is greedy writing and no more, by a model that can share."""
        settings = self.model.generation_config
        changed = [name for name, usual in _NEUTRAL.items() if getattr(settings, name, None) not in usual]
        wanted = normalize_gen_kwargs(options, self.max_gen_toks)
        greedy = not wanted["do_sample"] and set(wanted) <= _PLAIN_REQUEST
        ours = self.scorer.rows is not None and self.think_end_token is None and not self.truncation
        return ours and greedy and not changed

    def _write(self, prompts: list[np.ndarray], options: dict[str, Any], bar: Any) -> list[str]:
        wanted = normalize_gen_kwargs(options, self.max_gen_toks)
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(wanted["until"], eos=end)
        room = self.max_length - wanted["max_gen_toks"]
        if room <= 0:
            raise UserError(
                f"max_gen_toks: {wanted['max_gen_toks']} tokens to write leave no room for a prompt in this model's "
                f"{self.max_length}; set generation_kwargs.max_gen_toks of the task lower"
            )
        stops = self._stops(until)
        assert self.scorer.rows is not None, "only models that share come here"

        def done(ids: list[int]) -> bool:
            at_end = len(ids) == wanted["max_gen_toks"] or self._at_end(ids, stops)
            bar.update(at_end)
            return at_end

        cut = [prompt[-room:] for prompt in prompts]
        written = write_greedy(self.scorer.rows, cut, wanted["max_gen_toks"], done)
        return [postprocess_generated_text(self.tok_decode(ids), until, None) for ids in written]

    def _stops(self, until: list[str]) -> Stops:
        """Stop texts are searched for in as many last tokens as they have themselves, and two more, as in HFLM."""
        ends = self.model.generation_config.eos_token_id
        texts: dict[int, list[str]] = {}
        for text in until:
            texts.setdefault(len(self.tokenizer.encode(text, add_special_tokens=False)) + 2, []).append(text)
        return Stops(set(np.atleast_1d([] if ends is None else ends).astype(int).tolist()), texts)

    def _at_end(self, ids: list[int], stops: Stops) -> bool:
        tails = ((self.tokenizer.decode(ids[-length:]), texts) for length, texts in stops.texts.items())
        return ids[-1] in stops.ids or any(text in tail for tail, texts in tails for text in texts)


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation
