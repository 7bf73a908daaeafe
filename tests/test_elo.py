"""eval.elo: verdicts to ratings.json and a page; ties, rankings, both orders, groups that never met, resumed plans."""

from __future__ import annotations

import json
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.elo import EloConfig, elo
from eval.elo.games import VERDICTS, Consistency, Game, Judgement, Verdict, ranking_pairs, to_games
from eval.elo.page import render
from eval.elo.ratings import summarise
from mindllm.config import UserError, load

PROMPTS = {
    "p1": "请用一句话介绍长江，并说明它流经哪些省份。",
    "p2": "請寫一首關於秋天的短詩，並說明其中的意思。",
    "p3": "Please explain in one sentence why the sky is blue during the day.",
}
MODELS = ["阿甲", "b", "<c> & 'd'"]
MIRRORED: dict[Verdict, Verdict] = {"first": "second", "second": "first", "tie": "tie"}
judgements = st.lists(
    st.builds(
        Judgement,
        st.sampled_from(["p1", "p2"]),
        st.just("甲"),
        st.sampled_from(["乙", "丙"]),
        st.sampled_from([*VERDICTS, None]),
        judge=st.just(""),
        reason=st.just(""),
    )
    | st.sampled_from([Judgement("p3", "乙", "丙", verdict) for verdict in VERDICTS]),
    min_size=1,
    max_size=12,
).filter(lambda found: any(j.verdict for j in found))


def summary(found: list[Judgement], **changes: Any) -> dict[str, Any]:
    from mindllm.language import language

    langs = {i: language(text) for i, text in PROMPTS.items()}
    return summarise(found, langs, **{"num_resamples": 10, "level": 0.9, "seed": 1, **changes})


def ratings(result: dict[str, Any]) -> dict[str, float]:
    return {row["name"]: row["rating"] for row in result["models"]}


def both_orders(prompt: str, first: str, second: str, one: Verdict | None, other: Verdict | None) -> list[Judgement]:
    return [Judgement(prompt, first, second, one, "judge"), Judgement(prompt, second, first, other, "judge")]


def test_a_judge_that_takes_the_first_answer_makes_all_equal() -> None:
    for verdict in ("first", "second"):
        found = [Judgement(p, *pair, verdict, "judge") for p in PROMPTS for pair in permutations(MODELS, 2)]
        result = summary(found)
        assert set(ratings(result).values()) == {1000.0}
        assert all(row["low"] is row["high"] is None and row["ties"] == row["games"] == 6 for row in result["models"])
        counts = result["judgements"]
        assert counts["num_pairs_both_orders"] == counts["num_inconsistent"] == counts[f"num_always_{verdict}"] == 9
        assert counts["inconsistent"] == 1 and any("contradicted itself on 9 of 9" in n for n in result["notes"])


@pytest.mark.parametrize(
    ("one", "other", "points"),
    [("first", "second", 1), ("second", "first", 0), ("tie", "tie", 0.5), ("first", "first", 0.5)]
    + [("second", "second", 0.5), ("first", "tie", 0.5), ("tie", "first", 0.5)],
)
def test_both_orders_make_one_game(one: Verdict, other: Verdict, points: float) -> None:
    games, consistency = to_games(both_orders("p1", "甲", "乙", one, other))
    assert games == [Game("p1", "甲", "乙", points)]
    agreed = other == MIRRORED[one]
    assert consistency == Consistency(1, not agreed, one == other == "first", one == other == "second")


def test_a_verdict_that_is_missing_makes_no_game() -> None:
    found = [*both_orders("p1", "a", "b", "first", None), *both_orders("p2", "a", "b", "first", "second")]
    games, consistency = to_games(found)
    assert games == [Game("p2", "a", "b", 1)] and consistency.num_pairs == 1
    result = summary(found)
    assert result["judgements"]["without_verdict"] == {"none given": 1}
    with pytest.raises(UserError, match="no verdict of 2 judgements"):
        summary(both_orders("p1", "a", "b", None, None))


def test_judges_without_names_are_not_joined_and_named_ones_judge_once() -> None:
    found = [Judgement("p1", "a", "b", "first"), Judgement("p1", "b", "a", "first"), Judgement("p1", "a", "b", "tie")]
    assert len(to_games(found)[0]) == 3
    with pytest.raises(UserError, match="twice"):
        to_games([Judgement("p1", "a", "b", "first", "王")] * 2)
    with pytest.raises(UserError, match="with itself"):
        to_games([Judgement("p1", "a", "a", "first")])


def test_rankings_are_all_pairs() -> None:
    found = [(j.first, j.second, j.verdict) for j in ranking_pairs("p1", [["甲"], ["b", "c"], ["d"]])]
    assert found == [
        ("甲", "b", "first"), ("甲", "c", "first"), ("甲", "d", "first"), ("b", "c", "tie"), ("b", "d", "first"),
        ("c", "d", "first"),
    ]  # fmt: skip


@settings(max_examples=30)
@given(judgements)
def test_swapping_verdicts_mirrors_and_order_does_not_matter(found: list[Judgement]) -> None:
    plain = ratings(summary(found))
    mirrored = ratings(summary([j._replace(verdict=MIRRORED[j.verdict] if j.verdict else None) for j in found]))
    turned = ratings(summary([j._replace(first=j.second, second=j.first) for j in found]))
    for name, rating in plain.items():
        assert mirrored[name] == turned[name] == pytest.approx(2000 - rating, abs=0.11)
    assert ratings(summary(found[::-1])) == plain


@settings(max_examples=30)
@given(judgements)
def test_other_names_for_models_move_ratings_along(found: list[Judgement]) -> None:
    names = {"甲": "z", "乙": "甲", "丙": "a"}
    renamed = ratings(summary([j._replace(first=names[j.first], second=names[j.second]) for j in found]))
    for name, rating in ratings(summary(found)).items():
        assert renamed[names[name]] == pytest.approx(rating, abs=0.11)


def test_rows_count_and_languages_part() -> None:
    found = [
        *both_orders("p1", "甲", "b", "first", "second"), *both_orders("p2", "甲", "b", "tie", "tie"),
        *both_orders("p3", "甲", "b", "second", "first"), *both_orders("p3", "甲", "c", "first", "second"),
    ]  # fmt: skip
    result = summary(found)
    row = next(row for row in result["models"] if row["name"] == "甲")
    assert {k: row[k] for k in ("prompts", "games", "wins", "ties", "losses", "score")} == {
        "prompts": 3, "games": 4, "wins": 2, "ties": 1, "losses": 1, "score": 0.625,
    }  # fmt: skip
    assert set(result["languages"]) == {"zh", "en"}
    assert ratings({"models": result["languages"]["zh"]})["甲"] > 1000 and len(result["languages"]["en"]) == 3
    names, rate = result["win_rates"]["models"], result["win_rates"]["rate"]
    assert rate[names.index("甲")][names.index("b")] == 0.5 and rate[names.index("b")][names.index("c")] is None
    anchored = ratings(summary(found, anchor="b"))
    assert anchored["b"] == 1000 and anchored["甲"] == pytest.approx(
        1000 + row["rating"] - ratings(result)["b"], abs=0.11
    )
    with pytest.raises(UserError, match="anchor: x has played no game"):
        summary(found, anchor="x")


def test_what_rests_on_the_prior_is_said() -> None:
    apart = [Judgement("p1", "甲", "乙", "first"), Judgement("p3", "c", "d", "tie")]
    notes = " / ".join(summary(apart)["notes"])
    assert "never met, so ratings compare only within each: c, d | 乙, 甲" in notes
    assert (
        "never lost a point: 甲; how far above" in notes
        and "they have no interval" in notes
        and "never won a point: 乙;" in notes
        and "only 2 prompts: intervals" in notes
    )
    rows = {row["name"]: row for row in summary(apart)["models"]}
    assert {name for name, row in rows.items() if row["low"] is row["high"] is None} == {"甲", "乙", "c", "d"}
    assert ">-</td>" in render({"judge": "王", **summary(apart)})
    ties = [("a", "b", "tie"), ("c", "d", "tie"), ("a", "c", "first")]
    notes = " / ".join(summary([Judgement("p1", *t) for t in ties])["notes"])  # type: ignore[arg-type]
    assert "all points went one way" in notes and "a, b | c, d" in notes
    whole = [Judgement(f"第{n}题", *pair, "tie") for n in range(10) for pair in combinations("abc", 2)]
    assert summary(whole)["notes"] == [] and summary(whole)["languages"] == {}


def test_text_is_escaped_on_the_page() -> None:
    found = [Judgement(p, *pair, "first", "<script>") for p in PROMPTS for pair in combinations(MODELS, 2)]
    page = render({"judge": "<script>alert(1)</script>", **summary(found, anchor=MODELS[2])})
    assert "<script" not in page and "&lt;c&gt; &amp; &#39;d&#39;" in page and "阿甲" in page
    assert "Prompts in Chinese" in page and "Prompts in English" in page and "http" not in page.split("</head>")[1]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def given_file(tmp_path: Path) -> str:
    rows = [{"prompt": p, "first": "甲", "second": "b", "verdict": v} for p, v in zip(PROMPTS, VERDICTS, strict=True)]
    return write(tmp_path / "given.jsonl", [*rows, {"prompt": 4, "ranking": ["b", ["甲", "c"]]}])


def test_the_verb_rates_given_judgements(tmp_path: Path, given_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = load(EloConfig, None, [f"run={tmp_path}/run", f"judgements={given_file}", "num_resamples=20"])
    assert elo(config) == 0
    folder = tmp_path / "run" / "elo"
    first = {name: (folder / name).read_bytes() for name in ("ratings.json", "judgements.jsonl", "elo.html")}
    result = json.loads(first["ratings.json"])
    assert {row["name"]: row["games"] for row in result["models"]} == {"甲": 5, "b": 5, "c": 2}
    assert result["judge"] == "given.jsonl" and len(first["judgements.jsonl"].splitlines()) == 6
    assert elo(config) == 0 and "done before" in capsys.readouterr().out
    with pytest.raises(UserError, match="made from something else"):
        elo(load(EloConfig, None, [f"run={tmp_path}/run", f"judgements={given_file}", "num_resamples=30"]))
    again = load(
        EloConfig, None, [f"run={tmp_path}/again", f"judgements={folder}/judgements.jsonl", "num_resamples=20"]
    )
    assert elo(again) == 0  # what is written can be read
    assert json.loads((tmp_path / "again/elo/ratings.json").read_text())["models"] == result["models"]
    limited = load(EloConfig, None, [f"run={tmp_path}/few", f"judgements={given_file}", "limit=2"])
    assert elo(limited) == 0
    assert json.loads((tmp_path / "few/elo/ratings.json").read_text())["judgements"]["num_judgements"] < 6


def test_any_name_of_given_judgements_can_be_the_anchor(tmp_path: Path) -> None:
    rows = [{"prompt": n, "first": "某/A", "second": "b", "verdict": VERDICTS[n % 3]} for n in range(4)]
    given = write(tmp_path / "x.jsonl", rows)
    assert elo(load(EloConfig, None, [f"run={tmp_path}/run", f"judgements={given}", "anchor=某/A"])) == 0
    found = json.loads((tmp_path / "run/elo/ratings.json").read_text(encoding="utf-8"))
    assert ratings(found)["某/A"] == 1000 > ratings(found)["b"]


def test_plan_asks_for_nothing(tmp_path: Path, given_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert elo(load(EloConfig, None, [f"run={tmp_path}/run", f"judgements={given_file}", "plan=true"])) == 0
    assert "6 judgements are there" in capsys.readouterr().out
    (tmp_path / "answers").mkdir()
    for name in ("甲", "b"):
        rows = [{"id": i, "prompt": p, "answer": name} for i, p in PROMPTS.items()]
        write(tmp_path / "answers" / f"{name}.jsonl", rows[: 3 if name == "b" else 2])
    prompts = write(tmp_path / "prompts.jsonl", [{"id": i, "prompt": p} for i, p in PROMPTS.items()])
    model = f'models={{"c": {{"folder": "{tmp_path}/nowhere"}}}}'
    keys = [f"run={tmp_path}/run", f"answers={tmp_path}/answers", f"prompts={prompts}", model, "local.model=x"]
    assert elo(load(EloConfig, None, [*keys, "plan=true"])) == 0
    assert "3 models, 3 prompts; 3 answers to write, 14 verdicts" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_wrong_use_is_named(tmp_path: Path, given_file: str) -> None:
    with pytest.raises(UserError) as caught:
        load(
            EloConfig,
            None,
            ["level=1", "num_resamples=0", "limit=0", 'models={"../x": {"folder": "x"}}', "temperature=-1"],
        )
    for word in ("exactly one of the three", "prompts: name the file", "level", "num_resamples", "limit", "'../x'"):
        assert word in str(caught.value)
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers/one.jsonl").write_text("")
    with pytest.raises(UserError, match="a comparison needs two"):
        elo(load(EloConfig, None, [f"run={tmp_path}/run", f"answers={tmp_path}/answers", "local.model=x"]))
    (tmp_path / "answers/two.jsonl").write_text("")
    keys = [f"run={tmp_path}/run", f"answers={tmp_path}/answers", "local.model=x"]
    with pytest.raises(UserError, match="anchor: three is none of one, two"):
        elo(load(EloConfig, None, [*keys, "anchor=three"]))
    with pytest.raises(UserError, match="name a folder of answers"):
        load(EloConfig, None, ["local.model=x"])
    with pytest.raises(UserError, match="is no file"):
        elo(load(EloConfig, None, [f"run={tmp_path}/run", f"judgements={tmp_path}/no.jsonl"]))
