"""Config loading: what is refused, with which words, and that nothing but UserError ever comes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mindllm.config import UserError, load, parse, read_yaml


@dataclass
class Inner:
    path: str = "{run}/tokenizer"
    size: int = 1

    def problems(self) -> Iterator[str]:
        if self.size < 1:
            yield f"size: {self.size} is below 1"


@dataclass
class Config:
    steps: int
    run: str = "runs/demo"
    rate: float = 0.1
    flag: bool = False
    kind: Literal["cosine", "wsd"] = "cosine"
    level: Literal[0, 1] = 0
    title: str | None = None
    count: int | None = None
    either: int | str = 0
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    names: list[str] = field(default_factory=lambda: ["{run}/a"])
    parts: list[Inner] = field(default_factory=lambda: [Inner()])
    table: dict[str, Inner] = field(default_factory=dict)
    loose: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        if self.steps == 13:
            yield "steps: 13 is refused"


@dataclass
class Round:
    kind: Literal["round", "disc"] = "round"
    radius: int = 1


@dataclass
class Square:
    kind: Literal["square"] = "square"
    side: int = 2


@dataclass
class Shapes:
    shape: Round | Square = field(default_factory=Square)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path: Path | None, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(Config, path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("yaml_text", "message"),
    [
        ("stepz: 3", "stepz: unknown key; did you mean 'steps'?"),
        ("rate: 1", "steps: missing (int)"),
        ("steps: [1]", "steps: expected int, got list [1]"),
        ("steps: true", "steps: expected int, got bool True"),
        ("steps: 3.0", "steps: expected int, got float 3.0"),
        ("flag: 1", "flag: expected bool, got int 1"),
        ("rate: fast", "rate: expected float, got str 'fast'"),
        ("rate: 0x" + "f" * 5000, "rate: expected float, got int of too many digits"),
        ("kind: linear", "kind: expected one of cosine, wsd, got str 'linear'"),
        ("level: true", "level: expected one of 0, 1, got bool True"),
        ("title: 5", "title: expected str, got int 5"),
        ("either: [1]", "either: expected int or str, got list [1]"),
        ("inner: {siz: 1}", "inner.siz: unknown key; did you mean 'size'?"),
        ("inner: 4", "inner: expected keys and values, got int 4"),
        ("maybe: {size: 0}", "maybe.size: 0 is below 1"),
        ("names: [a, 2]", "names.1: expected str, got int 2"),
        ("names: a", "names: expected list[str], got str 'a'"),
        ("parts: [{size: 1}, {size: 0}]", "parts.1.size: 0 is below 1"),
        ("table: {一: {size: x}}", "table.一.size: expected int, got str 'x'"),
    ],
)
def test_refused_values(write: Any, yaml_text: str, message: str) -> None:
    assert f"  {message}" in refusal(write(yaml_text)).split("\n")


def test_all_problems_at_once(write: Any) -> None:
    path = write("rat: 1\ninner: {size: 0}\nflag: x\nnames: []")
    lines = refusal(path, "names.7=x", "loose", "kind=linear").split("\n")
    assert lines[0].endswith("config.yaml: 7 problem(s)")
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "names.7=x", "loose", "rat", "steps", "flag", "kind", "inner.size",
    ]  # fmt: skip
    assert refusal(write("steps: 13")).endswith("steps: 13 is refused")


def test_overrides(write: Any) -> None:
    path = write("steps: 1\nnames: [a]\nparts: [{size: 2}, {size: 3}]\nloose: {a: 1}\ntable: {2024: {size: 4}}")
    config = load(
        Config, path,
        ["steps=5", "rate=1e-3", "parts.1.size=9", "table.2024.size=6", "table.new.size=7", "loose.a=2"]
        + ["loose.b.c=[1, x]", "title=0123", "names.0=2024", "either=7", "flag=true", "inner.path=1e3"]
        + ["maybe={size: 4}"],
    )  # fmt: skip
    assert (config.steps, config.rate, config.flag, config.either) == (5, 1e-3, True, 7)
    assert [p.size for p in config.parts] == [2, 9]
    assert {k: v.size for k, v in config.table.items()} == {"2024": 6, "new": 7}
    assert config.loose == {"a": 2, "b": {"c": [1, "x"]}} and type(config.loose["a"]) is int
    assert (config.title, config.names, config.inner.path) == ("0123", ["2024"], "1e3")  # text stays as typed
    assert config.maybe == Inner("runs/demo/tokenizer", 4)
    config = load(Config, path, ["title=null", "count=", "either=x", "run=", "run=runs/山水 x"])
    assert (config.title, config.count, config.either, config.run) == (None, None, "x", "runs/山水 x")


@pytest.mark.parametrize(
    "override", ["=3", "steps", "steps.a=3", "parts.9.size=1", "parts.x=1", "names.²=1", "names.-1=1"]
)
def test_overrides_that_lead_nowhere(write: Any, override: str) -> None:
    assert f"  {override}: " in refusal(write("steps: 1\nparts: []\nnames: [a]"), override)


def test_run_is_filled_in_everywhere(write: Any) -> None:
    path = write('steps: 1\ntitle: "{run}/{run}"\nloose: {a: ["{run}/x"]}\nparts: [{size: 2}]\ntable: {t: {}}')
    for overrides, run in (([], "runs/demo"), (["run=runs/中文", "loose.b={run}"], "runs/中文")):
        config = load(Config, path, overrides)
        assert config.run == run and config.title == f"{run}/{run}"
        assert config.loose["a"] == [f"{run}/x"] and config.loose.get("b", run) == run
        assert config.names == [f"{run}/a"]  # a default
        assert {config.inner.path, config.parts[0].path, config.table["t"].path} == {f"{run}/tokenizer"}
    assert load(Config, None, ["steps=1", "run=2024"]).parts[0].path == "2024/tokenizer"
    assert "run: '' is no folder name" in refusal(path, "run=")
    assert "run: 'a/{run}' is no folder name" in refusal(path, "run=a/{run}")
    assert "run: expected str, got int 7" in refusal(write("steps: 1\nrun: 7"))
    assert load(Inner, None).path == "{run}/tokenizer"  # no run, nothing to fill in


def test_problems_see_the_run() -> None:
    @dataclass
    class Checked:
        run: str = "r"
        out: str = "{run}/out"

        def problems(self) -> Iterator[str]:
            yield f"out: {self.out}"

    with pytest.raises(UserError, match="out: q/out"):
        load(Checked, None, ["run=q"])


def test_numbers_and_dates() -> None:
    values = {
        "1e-3": 0.001,
        "1.5E+3": 1500.0,
        "-.5": -0.5,
        "1_000": 1000,
        "1_0.5": 10.5,
        "0x10": 16,
        "2024-01-02": "2024-01-02",
    }
    assert {text: read_yaml(text) for text in values} == values
    assert read_yaml("{2024: 1, no: 2, 1e3: 3, 是: 4}") == {"2024": 1, "no": 2, "1e3": 3, "是": 4}


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "{1: 1, '1': 2}", "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!set {a}"]
    + ["!!binary aGk=", "a: &x [1]\nb: *x", "&a [*a]", "{[1]: 2}", "{<<: {a: 1}}", "!!int x", "!!bool maybe", "0x_"]
    + ["!!float ''", '"\\UFFFFFFFF"', "[" * 1000, "a: b: c", "\x00"],
)  # fmt: skip
def test_refused_yaml(write: Any, text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)
    assert "not valid YAML" in refusal(write(text))


def test_files(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "steps: missing" in refusal(write("")) and "steps: missing" in refusal(write("# 空\n---\n"))
    assert "expected `key: value` lines at the top, got list [1]" in refusal(write("[1]"))
    assert "cannot be read as a UTF-8 text file" in refusal(write("steps: 1 # 步".encode("gb18030")))
    assert "cannot be read" in refusal(tmp_path)
    (tmp_path / "configs" / "data").mkdir(parents=True)
    (tmp_path / "configs" / "data" / "sample.yaml").write_text("steps: 1")
    monkeypatch.chdir(tmp_path)
    assert "did you mean configs/data/sample.yaml?" in refusal(Path("configs/data/simple.yaml"))
    assert refusal(Path("何处.yaml")) == "何处.yaml: no such config file"


def test_parse_with_a_prefix_and_round_trip(write: Any) -> None:
    problems: list[str] = []
    assert parse(Inner, {"size": 0}, problems, "clean.x.") is None and problems == ["clean.x.size: 0 is below 1"]
    config = load(Config, None, ["steps=1", "rate=1e-5", "table.a.size=3", "title=标题"])
    again = write(yaml.safe_dump(asdict(config), allow_unicode=True))
    assert load(Config, again) == config


keys = st.sampled_from(
    ["steps", "run", "rate", "inner", "parts", "table", "loose", "maybe", "names", "title", "path", "size", "0"]
)
scalars = st.one_of(
    st.sampled_from(
        ["1", "", "null", "{run}", "[1]", "{size: 1}", "0x_", "&a [*a]", "!!set {a}", "2024-13-99", "1e999", "²"]
    ),
    st.text(max_size=6),
)
overrides = st.builds(lambda path, value: ".".join(path) + "=" + value, st.lists(keys, min_size=1, max_size=3), scalars)


@settings(deadline=None)
@given(st.lists(st.one_of(overrides, st.text(max_size=8)), max_size=4))
def test_any_override_loads_or_is_a_user_error(given_overrides: list[str]) -> None:
    try:
        assert isinstance(load(Config, None, ["steps=1", *given_overrides]), Config)
    except UserError as error:
        assert str(error)


tree = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    st.one_of(st.text(max_size=40), st.binary(max_size=40), tree.map(lambda t: yaml.safe_dump(t, allow_unicode=True)))
)
def test_any_file_loads_or_is_a_user_error(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load(Config, path, ["steps=1"]), Config)
    except UserError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("given_overrides", "expected"),
    [
        ([], Square()),
        (["shape.kind=round", "shape.radius=3"], Round(radius=3)),
        (["shape.kind=disc"], Round(kind="disc")),
        (["shape.kind=square", "shape.side=5"], Square(side=5)),
        (["shape.radius=2"], Round(radius=2)),  # the first one is meant where none is named
    ],
)
def test_a_literal_field_tells_the_kinds_of_a_section_apart(given_overrides: list[str], expected: Any) -> None:
    assert load(Shapes, None, given_overrides).shape == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("shape.kind=cube", "shape.kind: expected one of round, disc, square, got str 'cube'"),
        ("shape.kind=[1]", "shape.kind: expected one of round, disc, square, got list [1]"),
        ("shape.side=3", "shape.side: unknown key; known: kind, radius"),
        ("shape={kind: square, side: x}", "shape.side: expected int, got str 'x'"),
        ("shape=3", "shape: expected"),
    ],
)
def test_a_section_of_no_known_kind_is_named(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(Shapes, None, [override])
    assert message in str(caught.value)


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)

    def problems(self) -> Iterator[str]:
        if self.inner.path != "there":
            yield f"inner.path: {self.inner.path} is not there"


def test_a_section_with_a_problem_is_still_the_one_that_was_given() -> None:
    """Not the default section: that would be blamed for what nobody wrote."""
    with pytest.raises(UserError) as caught:
        load(Outer, None, ["inner.path=there", "inner.size=0"])
    assert str(caught.value).splitlines()[1:] == ["  inner.size: 0 is below 1"]
