"""The filter language: what is read, and what it means in SQL."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, MetaData, Table, Text, create_engine, insert, select

from mainspring.core.errors import InvalidInput
from mainspring.store.bulk import BulkStatement
from mainspring.store.filters import order, terms, text_condition

ENTITIES = {"tag": "tag", "tags": "tag", "metrics": "metric"}
WORDS = Table("word", MetaData(), Column("word", Text), Column("number", Text))


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.begin() as opened:
        WORDS.create(opened)
        words = BulkStatement(insert(WORDS), ["word", "number"])
        words.run(opened, [(w, "1") for w in ("ant", "Ant", "a*t", "a_t", "a%t", "a[n]t", "bee")])
        words.run(opened, [])
        yield opened
    engine.dispose()


def found(connection: Connection, text: str) -> list[str]:
    query = select(WORDS.c.word)
    for term in terms(text, ENTITIES, default="attribute"):
        query = query.where(text_condition(WORDS.c.word, term))
    return list(connection.execute(query).scalars())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("word = 'ant'", ["ant"]),
        ("word LIKE 'a%'", ["ant", "a*t", "a_t", "a%t", "a[n]t"]),
        ("word LIKE 'A__'", ["Ant"]),
        ("word LIKE 'a*t'", ["a*t"]),
        ("word LIKE 'a[n]t'", ["a[n]t"]),
        ("word NOT LIKE 'a%'", ["Ant", "bee"]),
        ("word ILIKE 'AN%'", ["ant", "Ant"]),
        ("word IN ('ant', 'bee')", ["ant", "bee"]),
        ("word LIKE 'a%' AND word != 'ant' and word LIKE '%]t'", ["a[n]t"]),
    ],
)
def test_like_tells_upper_from_lower_case_and_knows_two_wildcards(
    connection: Connection, text: str, words: list[str]
) -> None:
    assert found(connection, text) == words


def test_a_term_names_entity_key_operator_and_value() -> None:
    read = terms(
        "tags.`a b` = 'x' AND metrics.m>=-1e3 and tag.\"c.d\" IS  NOT NULL", ENTITIES, default="-"
    )

    assert [(t.entity, t.key, t.operator, t.value) for t in read] == [
        ("tag", "a b", "=", "x"),
        ("metric", "m", ">=", "-1e3"),
        ("tag", "c.d", "IS NOT NULL", None),
    ]


def test_an_order_is_ascending_unless_it_says_so() -> None:
    assert order("tags.a", ENTITIES, default="-").ascending
    assert not order("tags.`desc` DESC", ENTITIES, default="-").ascending
    assert order("tags.`desc` asc", ENTITIES, default="-").key == "desc"


@given(st.text(max_size=60))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        terms(text, ENTITIES, default="attribute")
        order(text, ENTITIES, default="attribute")
    except InvalidInput:
        pass


@given(st.text(alphabet=st.characters(exclude_characters="'"), max_size=40))
def test_a_quoted_value_is_taken_as_it_stands(value: str) -> None:
    read = terms(f"tags.a = '{value}' AND tags.b = 'x'", ENTITIES, default="attribute")

    assert [term.value for term in read] == [value, "x"]
