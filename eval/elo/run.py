"""python -m eval elo CONFIG: which of several models answers better, as Elo ratings with intervals.

Answers (files, or exported models that write them) go to a judge (a server, an exported model, or judgements that are
there already), judgements become games (eval/elo/games.py), games ratings (eval/elo/bradley_terry.py): over all
prompts, and by the prompts' language. plan=true prints what that would cost and ends. Cost: the judge's; ratings take
seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.elo.answers import Answerer, Answers, list_answers, read_answers, read_prompts, write_answers
from eval.elo.games import Judgement
from eval.elo.judge import choose_prompts, judge_all, judge_facts, judge_name, num_verdicts, schedule
from eval.elo.judges.human import read_judgements
from eval.elo.judges.local import LocalJudge
from eval.elo.page import PAGE, RATINGS, print_ratings, write_page
from eval.elo.ratings import summarise
from eval.exported import hash_bytes
from eval.rows import write_rows
from mindllm.config import UserError
from mindllm.endpoint import EndpointConfig, read_key
from mindllm.generate import Settings
from mindllm.language import language
from mindllm.stage import Stage, read_json, write_json

_NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,99}")


@dataclass
class EloConfig:
    """Who answers, who judges, how the ratings are computed.

    run: folder that answers/ judge/ and elo/ are added to.  answers: folder with NAME.jsonl, a file a model, rows
    {"id", "prompt", "answer"}.  models: by name, exported models that answer `prompts` (rows {"id", "prompt"}); the
    keys from max_new_tokens to batch_size are theirs.  endpoint, local, judgements: the judge, one of the three; the
    last is a file (eval/judges/human.py).  limit: prompts.  anchor: the model that is rated 1000; "": the mean is.
    num_resamples, level: of the bootstrap intervals.  plan: print what would be asked, and end.
    """

    run: str = "runs/demo"
    answers: str = ""
    models: dict[str, Answerer] = field(default_factory=dict)
    prompts: str = ""
    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    batch_size: int = 8
    endpoint: EndpointConfig | None = None
    local: LocalJudge | None = None
    judgements: str = ""
    limit: int | None = None
    anchor: str = ""
    num_resamples: int = 1000
    level: float = 0.95
    seed: int = 1
    plan: bool = False
    force: bool = False

    def problems(self) -> Iterator[str]:
        """What cannot work, a line each."""
        if sum((self.endpoint is not None, self.local is not None, bool(self.judgements))) != 1:
            yield "endpoint, local, judgements: give exactly one of the three judges"
        if not self.judgements and not self.answers and not self.models:
            yield "answers, models: name a folder of answers, or exported models that answer"
        if self.judgements and self.models:
            yield "models: judgements are there already, so nobody has to answer"
        if self.models and not self.prompts:
            yield "prompts: name the file that models answer"
        for name in self.models:
            if not _NAME.fullmatch(str(name)):
                yield f"{str(name)[:60]!r}: is no name for a model (a file is called so)"
        yield from (p for p in self.generation().problems() if not p.startswith("stop"))
        if self.limit is not None and self.limit < 1:
            yield f"limit: {self.limit} must be at least 1, or null for all prompts"
        if not 1 <= self.num_resamples <= 1_000_000:
            yield f"num_resamples: {self.num_resamples} must be 1 to 1,000,000"
        if not 0 < self.level < 1 or math.isnan(self.level):
            yield f"level: {self.level} must be between 0 and 1"

    def generation(self) -> Settings:
        """How the models answer."""
        return Settings(
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_k=self.top_k, seed=self.seed,
            batch_size=self.batch_size,
        )  # fmt: skip

    @property
    def judge(self) -> EndpointConfig | LocalJudge | None:
        """The judge; None where the judgements are there."""
        return self.endpoint or self.local

    def folder(self, stage: str) -> Path:
        """Where a stage writes."""
        return Path(self.run) / stage


def elo(config: EloConfig) -> int:
    """Elo ratings of models from judgements of their answers, with bootstrap intervals."""
    if config.plan:
        print(describe_plan(config), flush=True)
        return 0
    _given_files(config)  # what is wrong with files, judge or key is said before hours of answering
    settings = _settings(config)
    if config.endpoint and config.models:
        read_key(config.endpoint.key_variable)
    paths = answer_files(config)
    stage = Stage(config.folder("elo"), "elo", settings, _inputs(config, paths))
    if stage.start(config.force):
        answers = read_answers(paths)
        judgements = _judgements(config, answers)
        write_rows(stage.folder / "judgements.jsonl", (j._asdict() for j in judgements))
        langs = {i: language(text) for i, text in answers.prompts.items()}
        judge = judge_name(config.judge) if config.judge else Path(config.judgements).name
        result = summarise(judgements, langs, config.num_resamples, config.level, config.seed, config.anchor)
        write_json(stage.folder / RATINGS, {"judge": judge, **result})
        write_page(stage.folder)
        stage.finish(**{"in": len(judgements), "out": len(result["models"]), "unit": "judgements -> models"})
    print_ratings(read_json(stage.folder / RATINGS))
    print(f"elo: {stage.folder / PAGE}", flush=True)
    return 0


def _settings(config: EloConfig) -> dict[str, Any]:
    keys = ("limit", "anchor", "num_resamples", "level", "seed")
    judge = judge_facts(config.judge) if config.judge else {"kind": "file"}
    return {**{key: getattr(config, key) for key in keys}, "judge": judge}


def _inputs(config: EloConfig, paths: dict[str, Path]) -> dict[str, Any]:
    inputs: dict[str, Any] = {"answers": {name: hash_bytes(path) for name, path in paths.items()}}
    return {**inputs, "judgements": hash_bytes(config.judgements)} if config.judgements else inputs


def answer_files(config: EloConfig) -> dict[str, Path]:
    """The file of each model's answers; exported models write theirs first. Raises UserError for fewer than two."""
    paths = _given_files(config)
    settings = config.generation()
    for name, model in config.models.items():
        folder = config.folder("answers") / name
        paths[name] = write_answers(folder, model, config.prompts, settings, config.force)
    return paths


def _given_files(config: EloConfig) -> dict[str, Path]:
    if config.judgements and not Path(config.judgements).is_file():
        raise UserError(f"judgements: {config.judgements} is no file")
    paths = list_answers(config.answers) if config.answers else {}
    if twice := sorted(set(paths) & set(config.models)):
        raise UserError(f"models.{twice[0]}: {paths[twice[0]]} holds answers of that name; call one of them otherwise")
    names = [*paths, *config.models]
    if not config.judgements and len(names) < 2:
        raise UserError(f"answers, models: {len(names)} model(s); a comparison needs two")
    if not config.judgements and config.anchor and config.anchor not in names:
        raise UserError(f"anchor: {config.anchor} is none of {', '.join(names)}")
    asked, given = read_prompts(config.prompts) if config.models else {}, read_answers(paths).prompts
    if other := sorted(i for i in asked if given.get(i, asked[i]) != asked[i]):
        raise UserError(f"prompts: id {other[0]!r} has another prompt in {config.answers}")
    return paths


def _judgements(config: EloConfig, answers: Answers) -> list[Judgement]:
    """All judgements on the chosen prompts."""
    if config.judge is None:
        found = read_judgements(config.judgements)
        kept = set(choose_prompts(list({j.prompt for j in found}), config.limit, config.seed))
        return [j for j in found if j.prompt in kept]
    prompts = choose_prompts(list(answers.prompts), config.limit, config.seed)
    for name, texts in answers.texts.items():
        if missing := sum(prompt not in texts for prompt in prompts):
            print(f"elo: {name} has no answer to {missing:,} of {len(prompts):,} prompts", flush=True)
    pairs = schedule(answers, prompts)
    if not pairs.matchups and not pairs.equal:
        raise UserError("answers: no two models have answered the same prompt")
    return judge_all(config.judge, pairs, config.folder("judge") / "verdicts.jsonl", config.seed)


def describe_plan(config: EloConfig) -> str:
    """What a run would do: prompts, models, answers to write, verdicts to ask for."""
    if config.judgements:
        return f"plan: {len(read_judgements(config.judgements)):,} judgements are there; nothing is asked"
    answers = read_answers(_given_files(config))
    asked = read_prompts(config.prompts) if config.models else {}
    chosen = choose_prompts(list({**answers.prompts, **asked}), config.limit, config.seed)
    answered = [*map(set, answers.texts.values()), *[set(asked)] * len(config.models)]
    verdicts = num_verdicts(answered, chosen)
    return (
        f"plan: {len(answered)} models, {len(chosen):,} prompts; {len(config.models) * len(asked):,} answers to write, "
        f"{verdicts:,} verdicts to ask for (each pair in both orders; less those that are kept, and equal answers)"
    )
