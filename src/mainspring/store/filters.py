"""The filter language of searches: `entity.key op value and ...`, read and made into SQL.

A room says which entities and keys there are and turns each comparison into a condition; what the
text means, what is bounded and how LIKE differs between databases is decided here once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, ColumnElement, bindparam, func, not_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from mainspring.core.errors import InvalidInput

FILTER_LENGTH = 100_000
TERMS_AT_MOST = 100
LISTED_AT_MOST = 5_000
PATTERN_LENGTH = 2_000
WILDCARDS_AT_MOST = 10

Value = str | int | float | tuple[str, ...] | None

_NAME = re.compile(r"\s*(?:([A-Za-z_]+)\s*\.\s*)?(`[^`]*`|\"[^\"]*\"|[^\s=!<>'\"`(),]+)")
_OPERATOR = re.compile(
    r"\s*(>=|<=|!=|=|>|<|(?:NOT\s+IN|IN|NOT\s+LIKE|LIKE|ILIKE|IS\s+NOT\s+NULL|IS\s+NULL)\b)",
    re.IGNORECASE,
)
_VALUE = re.compile(r"\s*('[^']*'|\"[^\"]*\"|\((?:'[^']*'|\"[^\"]*\"|[^)'\"])*\)|[^\s,()'\"]+)")
_AND = re.compile(r"\s+AND\s+", re.IGNORECASE)
_LISTED = re.compile(r"\s*('[^']*'|\"[^\"]*\"|[^\s,'\"]+)\s*(,|$)")
_ORDER = re.compile(r"\s+(ASC|DESC)\s*$", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison as it was written; `value` is None for IS NULL and IS NOT NULL."""

    entity: str
    key: str
    operator: str
    value: Value
    quoted: bool
    text: str


@dataclass(frozen=True, slots=True)
class Order:
    """By what to sort."""

    entity: str
    key: str
    ascending: bool


def terms(text: str | None, entities: Mapping[str, str], *, default: str) -> list[Term]:
    """Read a filter.

    Args:
        entities: Every name an entity goes by -> its one name.
        default: The entity of a key without one.

    Raises:
        InvalidInput: It cannot be read, names an unknown entity, or is too long.
    """
    text = (text or "").strip()
    if len(text) > FILTER_LENGTH:
        raise InvalidInput(
            f"Invalid filter string: found {len(text)} characters, expected {FILTER_LENGTH} at most"
        )
    found: list[Term] = []
    position = 0
    while position < len(text):
        term, position = _term(text, position, entities, default)
        found.append(term)
        if len(found) > TERMS_AT_MOST:
            raise InvalidInput(f"Invalid filter string: expected {TERMS_AT_MOST} terms at most")
        if position < len(text):
            joined = _AND.match(text, position)
            if joined is None or joined.end() == len(text):
                raise _unreadable(text, position)
            position = joined.end()
    return found


def order(text: str, entities: Mapping[str, str], *, default: str) -> Order:
    """Read one `entity.key [ASC|DESC]`; ascending when it does not say."""
    direction = _ORDER.search(text)
    named = text[: direction.start()] if direction else text
    match = _NAME.fullmatch(named.rstrip()) if len(text) <= FILTER_LENGTH else None
    if match is None:
        raise InvalidInput(
            f"Invalid order_by clause '{text[:60]}'. Expected '<entity>.<key> [ASC|DESC]'."
        )
    entity, key = _named(match, entities, default)
    return Order(entity, key, direction is None or direction.group(1).upper() == "ASC")


def text_condition(column: ColumnElement[Any], term: Term) -> ColumnElement[bool]:
    """Compare a column of text.

    Raises:
        InvalidInput: The value is not quoted, or the operator is not for text.
    """
    match term.operator, term.value:
        case (("IN" | "NOT IN"), tuple() as listed):
            return column.in_(listed) if term.operator == "IN" else column.not_in(listed)
        case _, str() as value if term.quoted:
            return _text_operator(column, term, value)
        case _:
            raise InvalidInput(
                "Parameter value is either not quoted or unidentified quote types used for string "
                f"value {term.value}. Use either single or double quotes."
            )


def number_condition(column: ColumnElement[Any], term: Term) -> ColumnElement[bool]:
    """Compare a column of numbers.

    Raises:
        InvalidInput: The value is no number, or the operator is not for numbers.
    """
    value = number(term)
    operators = {
        "=": column == value,
        "!=": column != value,
        ">": column > value,
        ">=": column >= value,
        "<": column < value,
        "<=": column <= value,
    }
    if term.operator not in operators:
        raise InvalidInput(f"Invalid comparator '{term.operator}' not one of {list(operators)}")
    return operators[term.operator]


def unindexed(column: Any) -> Any:
    """Give a column as a value that no index has.

    A planner without figures takes an index that has the asked order before one that leaves little;
    what is sorted by such a value, or compared with it, leaves it no choice.
    """
    return column.concat("")


def number(term: Term) -> int | float:
    """Give a term's value as a number.

    Raises:
        InvalidInput: It is none.
    """
    text = term.value
    if term.quoted or not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise InvalidInput(
            f"Expected numeric value type for {term.entity}. Found {str(text)[:60]!r} for "
            f"{term.key!r}"
        )
    if re.fullmatch(r"[-+]?\d{1,19}", text) and -_INT64 <= int(text) < _INT64:
        return int(text)
    return float(text)


class _Like(FunctionElement[bool]):
    """LIKE that tells upper from lower case, whatever the database does by itself."""

    type = Boolean()
    name = "like_exactly"
    inherit_cache = True


@compiles(_Like)
def _standard(element: _Like, compiler: Any, **options: Any) -> str:
    column, like, _ = element.clauses
    return f"{compiler.process(column, **options)} LIKE {compiler.process(like, **options)}"


@compiles(_Like, "sqlite")
def _sqlite(element: _Like, compiler: Any, **options: Any) -> str:
    column, _, pattern = element.clauses
    return f"{compiler.process(column, **options)} GLOB {compiler.process(pattern, **options)}"


def _like(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    escaped = re.sub(r"[*?\[]", lambda sign: f"[{sign.group()}]", pattern)
    shell = escaped.replace("%", "*").replace("_", "?")
    return _Like(column, bindparam(None, pattern), bindparam(None, shell))


def _text_operator(column: ColumnElement[Any], term: Term, value: str) -> ColumnElement[bool]:
    # The time to match a pattern grows with a power of its wildcards.
    if "LIKE" in term.operator and (
        len(value) > PATTERN_LENGTH or value.count("%") > WILDCARDS_AT_MOST
    ):
        raise InvalidInput(
            f"Invalid pattern for {term.key!r}: expected {PATTERN_LENGTH} characters and "
            f"{WILDCARDS_AT_MOST} '%' at most"
        )
    match term.operator:
        case "=":
            return column == value
        case "!=":
            return column != value
        case "LIKE":
            return _like(column, value)
        case "NOT LIKE":
            return not_(_like(column, value))
        case "ILIKE":
            return func.lower(column).like(value.lower())
        case other:
            raise InvalidInput(
                f"Invalid comparator '{other}' for {term.entity} {term.key!r}, not one of "
                "'=', '!=', 'LIKE', 'ILIKE', 'IN', 'NOT IN'"
            )


def _term(text: str, position: int, entities: Mapping[str, str], default: str) -> tuple[Term, int]:
    name = _NAME.match(text, position)
    operator = _OPERATOR.match(text, name.end()) if name else None
    if name is None or operator is None:
        raise _unreadable(text, position)
    entity, key = _named(name, entities, default)
    spelled = " ".join(operator.group(1).upper().split())
    if spelled.startswith("IS"):
        whole = text[position : operator.end()]
        return Term(entity, key, spelled, None, False, whole), operator.end()
    value = _VALUE.match(text, operator.end())
    if value is None:
        raise _unreadable(text, position)
    whole = text[position : value.end()]
    read = _value(value.group(1), spelled, whole)
    quoted = value.group(1)[0] in "'\""
    return Term(entity, key, spelled, read, quoted, whole), value.end()


def _value(written: str, operator: str, whole: str) -> Value:
    listed = written.startswith("(")
    if listed != (operator in ("IN", "NOT IN")):
        raise InvalidInput(f"Invalid clause(s) in filter string: {whole[:80]!r}")
    return _list(written[1:-1], whole) if listed else _bare(written)


def _list(written: str, whole: str) -> tuple[str, ...]:
    found: list[str] = []
    position = 0
    while position < len(written):
        match = _LISTED.match(written, position)
        if match is None or len(found) >= LISTED_AT_MOST:
            raise InvalidInput(f"Invalid list in filter string: {whole[:80]!r}")
        found.append(_bare(match.group(1)))
        position = match.end()
    if not found:
        raise InvalidInput(f"While parsing a list in the query, found an empty one: {whole[:80]!r}")
    return tuple(found)


def _bare(written: str) -> str:
    return written[1:-1] if written[:1] in ("'", '"', "`") else written


def _named(match: re.Match[str], entities: Mapping[str, str], default: str) -> tuple[str, str]:
    prefix, key = match.group(1), _bare(match.group(2))
    if not key:
        raise InvalidInput(f"Invalid identifier {match.group().strip()!r}: the key is empty")
    if prefix is None:
        return default, key
    entity = entities.get(prefix.lower())
    if entity is None:
        known: Sequence[str] = sorted(entities)
        raise InvalidInput(f"Invalid entity type '{prefix}'. Valid values are {known}")
    return entity, key


def _unreadable(text: str, position: int) -> InvalidInput:
    return InvalidInput(
        f"Invalid clause(s) in filter string: {text[position : position + 80].strip()!r}; expected "
        "comparisons joined by AND, such as metrics.auc > 0.8"
    )
