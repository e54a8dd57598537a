"""Facts and messages in words."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest
from msgspec import inspect

from mainspring.core.events import AnyEvent, Fact
from mainspring.core.ids import Digest, Id, Seq, Subject
from mainspring.server.ui.telling import lasted, linked, sentence, size, told, tone

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def _filled(kind: inspect.Type) -> Any:
    match kind:
        case inspect.StrType():
            return "text"
        case inspect.IntType():
            return 3
        case inspect.FloatType():
            return 0.25
        case inspect.BoolType():
            return False
        case inspect.DateTimeType():
            return NOW
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.DictType():
            return {}
        case inspect.UnionType(types=types):
            return _filled(types[0])
        case inspect.VarTupleType():
            return ()
        case inspect.CustomType():
            return None
        case other:
            raise AssertionError(f"no value for {other}")


def _fact(event: type[Any]) -> Fact:
    fields = msgspec.structs.fields(event)
    info = inspect.type_info(event)
    assert isinstance(info, inspect.StructType)
    values = {f.name: _filled(i.type) for f, i in zip(fields, info.fields, strict=True)}
    return Fact(
        seq=Seq(7), id=Id("0" * 32), at=NOW, actor="loop", event=event(**values),
        subject=Subject("default", "endpoint", "delay"), cause=None,
        before=Digest("0" * 64), hash=Digest("1" * 64),
    )  # fmt: skip


@pytest.mark.parametrize("event", get_args(AnyEvent), ids=lambda event: event.__name__)
def test_every_event_is_told_in_a_sentence(event: type[Any]) -> None:
    fact = _fact(event)

    said = told(fact)

    assert len(said) > 8
    assert "None" not in said
    assert "{" not in said
    assert tone(fact) in ("good", "bad", "warn", "doing", "plain")


def test_a_message_is_escaped_before_its_names_become_links() -> None:
    run = "0197a3c2" * 4
    text = f"run {run} <b>failed</b> at 2013-04-21T06:30:00+00:00, see fact 12; digest {'ab' * 32}"

    shown = linked(text, "/p/other")

    assert f'href="/p/other/runs/{run}"' in shown
    assert 'href="/p/other/ledger?before=13#f12"' in shown
    assert "21 Apr 2013 06:30" in shown
    assert "&lt;b&gt;failed" in shown
    assert "<b>" not in shown
    assert ">abababababab…</code>" in shown


def test_lengths_and_sizes_are_short() -> None:
    assert lasted(timedelta(milliseconds=340)) == "0.3 s"
    assert lasted(timedelta(hours=5, minutes=2)) == "5 h 2 min"
    assert size(512) == "512 B"
    assert size(None) == "–"
    assert sentence("it waits") == "It waits."
    assert sentence("It waits.") == "It waits."
