"""mindllm.page: text is escaped, missing facts are errors, data cannot end its element, numbers read well."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm.page import (
    json_for_script,
    markup,
    render,
    script_hash,
    show_bytes,
    show_count,
    show_rate,
    show_seconds,
    show_share,
)

EVIL = "</script><script>alert('茶')</script>"


def template(folder: Path, text: str) -> Path:
    path = folder / "page.html.j2"
    path.write_text(text, encoding="utf-8")
    return path


def test_text_is_escaped_and_our_own_markup_is_not(tmp_path: Path) -> None:
    path = template(tmp_path, '<p title="{{ text }}">{{ text }}{{ figure }}</p>')
    html = render(path, text='茶 & "tea" <b>', figure=markup("<svg></svg>"))
    assert html == '<p title="茶 &amp; &#34;tea&#34; &lt;b&gt;">茶 &amp; &#34;tea&#34; &lt;b&gt;<svg></svg></p>\n'


def test_a_missing_fact_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="absent"):
        render(template(tmp_path, "{{ absent }}"))


def test_filters_and_base_style_are_at_hand(tmp_path: Path) -> None:
    path = template(tmp_path, "{{ n | count }} {{ n | size }} {{ text | lang }} {{ n | half }}\n{{ base_style }}")
    html = render(path, {"half": lambda n: n // 2}, n=12345, text="臺灣的夏天很熱")
    first, rest = html.split("\n", 1)
    assert first == "12,345 12.3 kB zh-Hant 6172"
    assert rest.startswith(":root {") and '"Noto Sans CJK SC"' in rest  # quotes are not escaped


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([EVIL, "<!--", "]]>", "a\u2028b\u2029"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_data_survives_and_cannot_leave_its_element(value: object) -> None:
    text = str(json_for_script(value))
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


def test_data_without_words_in_json_is_refused() -> None:
    with pytest.raises(ValueError):
        json_for_script({"density": float("nan")})


def test_script_hash_is_that_of_the_policy() -> None:
    script = "alert('茶');"
    expected = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert script_hash(script) == f"'sha256-{expected}'"
    # the example in the standard (CSP Level 3, section 8.3)
    assert script_hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"


def test_numbers_read_well() -> None:
    assert [show_count(n) for n in (None, 0, 1234567)] == ["-", "0", "1,234,567"]
    assert [show_bytes(n) for n in (0, 999, 12_345, 4_500_000, 6_700_000_000)] == [
        "0 B",
        "999 B",
        "12.3 kB",
        "4.5 MB",
        "6.7 GB",
    ]
    assert [show_seconds(s) for s in (0.44, 12.3, 59.6, 200, 7500)] == [
        "0.4 s",
        "12 s",
        "1 min 00 s",
        "3 min 20 s",
        "2 h 05 min",
    ]
    assert [show_rate(r) for r in (None, 3.44, 12345.6)] == ["-", "3.4/s", "12,346/s"]
    assert [show_share(v) for v in (0, 0.1234, 1)] == ["0.0%", "12.3%", "100.0%"]
