"""Words for people: facts as sentences, instants and sizes as short texts, names as links."""

import re
from datetime import UTC, datetime, timedelta

from markupsafe import Markup, escape

from mainspring.core import events as happened
from mainspring.core.events import Fact
from mainspring.core.ids import DEFAULT_PROJECT

_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:\+00:00|Z)?")
_RUN = re.compile(r"\brun ([0-9a-f]{32})\b")
_FACT = re.compile(r"\bfact (\d+)\b")
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def base_of(project: str) -> str:
    """Give what all links of a project begin with."""
    return "" if project == DEFAULT_PROJECT else f"/p/{project}"


def when(at: datetime | None) -> str:
    """Write an instant shortly, always in UTC.

    >>> when(datetime(2013, 4, 21, tzinfo=UTC)), when(datetime(2013, 4, 21, 6, 30, tzinfo=UTC))
    ('21 Apr 2013', '21 Apr 2013 06:30')
    """
    if at is None:
        return "–"
    day = f"{at.day} {at:%b %Y}"
    return day if (at.hour, at.minute, at.second) == (0, 0, 0) else f"{day} {at:%H:%M}"


def clock_time(at: datetime | None) -> str:
    """Write wall time to the second."""
    return "–" if at is None else f"{at.day} {at:%b %H:%M:%S}"


def lasted(length: timedelta) -> str:
    """Write how long something took.

    >>> lasted(timedelta(seconds=75)), lasted(timedelta(days=3, hours=2))
    ('1 min 15 s', '3 d 2 h')
    """
    seconds = length.total_seconds()
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60),
                                    ("min", 60, "s", 1)):  # fmt: skip
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // part)} {below}"
    return f"{seconds:.1f} s"


def count(number: float | None) -> str:
    """Write a whole number with its thousands apart."""
    return "–" if number is None else f"{number:,.0f}"


def number(value: object, places: int = 4) -> str:
    """Write a value of any kind; numbers to some places that matter."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if value.is_integer() and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.{places}f}" if 0.001 <= abs(value) < 1000 else f"{value:.{places}g}"


def brief(value: object) -> str:
    """Write a value of any kind as short as it can be without losing what it is.

    >>> brief(160.0), brief(60000.0), brief("JFK"), brief(None)
    ('160', '60000', 'JFK', '–')
    """
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def size(size_bytes: int | None) -> str:
    """Write bytes.

    >>> size(1_500_000)
    '1.4 MiB'
    """
    if size_bytes is None:
        return "–"
    scaled, unit = float(size_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if scaled < 1024 or unit == "GiB":
            break
        scaled /= 1024
    return f"{scaled:.0f} {unit}" if unit == "B" else f"{scaled:.1f} {unit}"


def outset(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Make a whole sentence of a message.

    >>> sentence("nothing to do")
    'Nothing to do.'
    """
    return outset(text) + ("" if text.endswith((".", "!", "?")) else ".")


def linked(text: str, base: str = "") -> Markup:
    """Escape a message of ours, then shorten its instants and digests and link runs and facts."""
    safe = str(escape(text))
    safe = _INSTANT.sub(lambda found: when(_instant(found[0])), safe)
    safe = _RUN.sub(
        lambda found: f'run <a href="{base}/runs/{found[1]}">{found[1][:4]}…{found[1][-6:]}</a>',
        safe,
    )
    safe = _FACT.sub(
        lambda found: (
            f'<a href="{base}/ledger?before={int(found[1]) + 1}#f{found[1]}">fact {found[1]}</a>'
        ),
        safe,
    )
    return Markup(_DIGEST.sub(r'<code title="\g<0>">\1…</code>', safe))


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "")).replace(tzinfo=UTC)


def tone(fact: Fact) -> str:
    """Say whether a fact is good news, bad news, or news."""
    match fact.event:
        case happened.Promoted() | happened.RolloutCompleted() | happened.Approved():
            return "good"
        case happened.Alarmed() | happened.CommitRefused():
            return "bad"
        case happened.RolledBack() | happened.Rejected() | happened.VerdictLapsed():
            return "warn"
        case happened.Judged(outcome=outcome):
            return {"pass": "good", "fail": "warn", "inconclusive": "plain"}[outcome]
        case happened.RunClosed(outcome=outcome):
            return "plain" if outcome == "finished" else "warn"
        case happened.RolloutStarted() | happened.RolloutAdvanced() | happened.RunOpened():
            return "doing"
        case _:
            return "plain"


def told(fact: Fact) -> str:
    """Tell a fact in one sentence."""
    name = fact.subject.name
    match fact.event:
        case happened.Applied() as e:
            return (
                f"{_some(len(e.endpoints), 'endpoint')}, {_some(len(e.datasets), 'dataset')} and "
                f"{_some(len(e.views), 'feature view')} declared from {e.source}"
            )
        case happened.Committed() as e:
            put = f", {e.quarantined:,} quarantined" if e.quarantined else ""
            return f"{name} version {e.version}: {e.rows:,} rows{put}"
        case happened.CommitRefused() as e:
            return f"{name}: a commit was refused, {'; '.join(e.findings)}"
        case happened.Aliased() as e:
            led = "was removed" if e.version is None else f"leads to version {e.version}"
            return f"alias {e.alias} of {e.model} {led}"
        case happened.Purged() as e:
            return f"{e.rows:,} rows of {e.table} were purged"
        case happened.Granted() as e:
            return f"{e.name} is now {e.role}"
        case happened.Revoked() as e:
            return f"{e.name} lost every role and token"
        case happened.TokenIssued() as e:
            return f"{e.name} was given a token"
        case happened.TokenRevoked() as e:
            return f"a token of {e.name} was revoked"
        case other:
            return _of_a_version(other, f"{fact.subject.kind} {name}")


def _of_a_version(found: happened.AnyEvent, subject: str) -> str:
    match found:
        case happened.RunOpened() as e:
            return f"{e.endpoint or e.pipeline}: a run was opened, asked by {asked_by(e.trigger)}"
        case happened.RunClosed() as e:
            made = f" with version {e.version}" if e.version else ""
            said = f". {e.message}" if e.message else ""
            return f"{e.endpoint or 'a pipeline'}: the run {e.outcome}{made}{said}"
        case happened.Registered() as e:
            opaque = ", opaque" if e.opaque else ""
            return f"{e.model}: version {e.version} was registered{opaque}"
        case happened.Judged() as e:
            against = f" against {e.champion}" if e.champion else ""
            return f"{e.endpoint}: gate on version {e.candidate}: {e.outcome}{against}. {e.reason}"
        case happened.VerdictLapsed() as e:
            return f"{e.endpoint}: the gate on version {e.candidate} stayed inconclusive and lapsed"
        case happened.ApprovalAsked() as e:
            return (
                f"{e.endpoint}: version {e.candidate} waits for a person until {when(e.deadline)}"
            )
        case happened.Approved() as e:
            return f"{e.endpoint}: version {e.candidate} was approved. {e.comment}"
        case happened.Rejected() as e:
            return f"{e.endpoint}: version {e.candidate} was declined. {e.comment}"
        case happened.RolloutStarted() as e:
            return (
                f"{e.endpoint}: version {e.candidate} takes {e.share:.0%} of the traffic beside "
                f"{e.live} ({e.kind})"
            )
        case happened.RolloutAdvanced() as e:
            return f"{e.endpoint}: the rollout moved on to {e.share:.0%}"
        case happened.RolloutCompleted() as e:
            return f"{e.endpoint}: the rollout is complete. {e.reason}"
        case happened.RolledBack() as e:
            return f"{e.endpoint}: version {e.candidate} was rolled back. {e.reason}"
        case happened.Promoted() as e:
            before = f" in place of {e.before}" if e.before else ", the first"
            return f"{e.endpoint}: version {e.version} went live{before}"
        case happened.Alarmed() as e:
            return f"{e.endpoint}: alarm of monitor {e.monitor}. {e.message}"
        case happened.AlarmEnded() as e:
            return f"{e.endpoint}: the alarm of monitor {e.monitor} ended ({_cause(e.cause)})"
        case other:
            words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(other).__name__).lower()
            return f"{subject}: {words}"


def asked_by(trigger: str) -> str:
    """Say what asked for a run.

    >>> asked_by("cron:2013-05-01T03:00:00+00:00"), asked_by("manual:x"), asked_by("first")
    ('the calendar', 'hand', 'the want of a first version')
    """
    kind = trigger.partition(":")[0]
    words = {"alarm": "an alarm", "cron": "the calendar", "manual": "hand"}
    return words.get(kind, "the want of a first version" if kind == "first" else kind)


def _cause(cause: str) -> str:
    return cause.replace("_", " ")


def _some(many: int, what: str) -> str:
    return f"{many} {what}{'' if many == 1 else 's'}"
