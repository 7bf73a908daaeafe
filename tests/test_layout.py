"""Blocks as text: paragraphs, list items, table rows, code."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_pages import EN, HANS, HANT, LANGUAGES, Words

from data_pipeline.pages import layout
from data_pipeline.pages.blocks import read_page

each = pytest.mark.parametrize("words", LANGUAGES, ids=[words.lang for words in LANGUAGES])


def written(html: str) -> str:
    page = read_page(f"<body>{html}</body>")
    return layout.write(page, page.blocks)


def test_nothing() -> None:
    assert written("") == written("<p> </p><ul><li></li></ul>") == ""


@each
def test_paragraphs_and_lines(words: Words) -> None:
    one, two, three = words.story[:3]
    assert written(f"<h2>{words.title}</h2><p>{one}</p><div>{two}</div>{three}") == "\n\n".join(
        [words.title, one, two, three]
    )
    assert written(f"<p>{one}<br>{two}</p><p>{three}</p>") == f"{one}\n{two}\n\n{three}"
    assert written(f"<blockquote>{one}<br><br><br>{two}</blockquote>{three}") == f"{one}\n{two}\n\n{three}"


@each
def test_lists(words: Words) -> None:
    one, two, three, four, five, six = words.others
    nested = f"<ul><li>{two}</li><li>{three}<ol><li>{four}</li><li>{five}</li></ol></li></ul>"
    expected = f"- {one}\n  - {two}\n  - {three}\n    1. {four}\n    2. {five}\n- {six}"
    assert written(f"<ul><li>{one}{nested}</li><li>{six}</li></ul>") == expected
    assert written(f"<ul><li><p>{one}</p>{nested}</li><li><p>{six}</p></li></ul>") == expected
    assert written(f"<p>{one}</p><ol><li>{two}</li></ol><p>{three}</p>") == f"{one}\n\n1. {two}\n\n{three}"
    assert written(f"<ol><li>{one}</li><li></li><li>{two}</li></ol>") == f"1. {one}\n3. {two}"
    assert written(f"<ul><li><p>{one}</p><p>{two}</p></li></ul>") == f"- {one}\n{two}"


def test_lists_are_indented_four_levels_at_most() -> None:
    text = written("<ul><li>甲" * 7)
    assert text.split("\n") == ["  " * min(depth, 4) + "- 甲" for depth in range(7)]


@each
def test_definitions(words: Words) -> None:
    html = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in words.terms)
    assert written(f"<dl>{html}</dl>") == "\n".join(part for term in words.terms for part in term)


@each
def test_rows_of_a_table(words: Words) -> None:
    name, text = words.terms[0]
    rows = f"<tr><th>{name}</th><th>n</th></tr><tr><td><p>{text}</p></td><td> <b>12</b> </td></tr>"
    expected = f"{name}\tn\n{text}\t12"
    assert written(f"<table>{rows}</table>") == expected
    assert (
        written(f"<table><caption>x</caption><thead><tbody>{rows}</table><p>{name}</p>") == f"x\n\n{expected}\n\n{name}"
    )


@each
def test_tables_that_are_layout(words: Words) -> None:
    """Long cells, and cells of several paragraphs, are paragraphs."""
    long = " ".join(words.story[:3])
    name = words.terms[0][0]
    assert written(f"<table><tr><td>{name}</td><td>{long}</td></tr></table>") == f"{name}\n{long}"
    cell = f"<p>{words.story[0]}</p><p>{words.story[1]}</p>"
    text = written(f"<table><tr><td>{name}</td><td>{cell}</td></tr></table>")
    assert text == "\n".join([name, *words.story[:2]])


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    if x:\n        return '文本'\n\n    return 2",
        "    first line is indented\nsecond is not",
        "a\tb\n\t\tc\n",
        "｜表｜  \n  ｜格｜",
    ],
)
@each
def test_code_is_exact(words: Words, code: str) -> None:
    for start, end in (("<pre>", "</pre>"), ("<pre><code class='x'>", "</code></pre>"), ("<pre>\n", "\n</pre>")):
        text = written(f"<p>{words.story[0]}</p>{start}{code}{end}<ul><li>{words.story[1]}</li></ul>")
        assert text == f"{words.story[0]}\n\n{code.rstrip()}\n\n- {words.story[1]}"


def test_coloured_code_is_code() -> None:
    html = '<pre><span class="k">for</span> <i>x</i> in y:\n    <span>print</span>(&quot;好&quot;, x &lt; 3)</pre>'
    assert written(html) == 'for x in y:\n    print("好", x < 3)'


_ITEMS = st.recursive(
    st.sampled_from([EN.title, HANS.title, HANT.title, EN.story[0], HANT.story[1], "x", "<br>", "", " \n"]),
    lambda inner: st.builds(
        lambda tag, parts: f"<{tag}>{' '.join(parts)}</{tag}>",
        st.sampled_from("p div ul ol li dl dt dd table tr td th pre b".split()),
        st.lists(inner, max_size=4),
    ),
    max_leaves=20,
)


@settings(max_examples=120, deadline=None)
@given(st.lists(_ITEMS, max_size=6))
def test_every_block_once_and_in_order(parts: list[str]) -> None:
    page = read_page("".join(parts))
    text = layout.write(page, page.blocks)
    place = 0
    for block in page.blocks:
        place = text.index(block.text, place) + len(block.text)
    assert "\n\n\n" not in text.replace("\n" * 2, "\n\n") or any("\n\n\n" in block.text for block in page.blocks)
    left = text
    for block in page.blocks:
        left = left.replace(block.text, "", 1)
    assert set(left) <= set(" -\n\t.0123456789")
