"""Scoring requests of one choice together, with the same outcome as one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mainspring.core.clock import Clock
from mainspring.core.ids import Id, IdSource
from mainspring.formats.routes import Arm
from mainspring.formats.segment import ArmOutput, ViewUse
from mainspring.serving.choice import NO_ERRORS, Choice
from mainspring.serving.lookup import LookedUp
from mainspring.serving.record import Scored, Timing
from mainspring.serving.replay import Answer
from mainspring.serving.router import chosen
from mainspring.serving.salvage import Scored as Values
from mainspring.serving.salvage import ScoringFailed
from mainspring.serving.scoring import ArmScore, Scorer, settle
from mainspring.serving.sent import Sent, joined


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that were scored together."""

    scored: list[Scored]
    looked_up: LookedUp
    timing: Timing


class Scoring:
    """Looks features up, scores and settles who answers."""

    def __init__(self, clock: Clock, ids: IdSource) -> None:
        self._clock = clock
        self._ids = ids
        self.scorer = Scorer(clock)

    def score(self, choice: Choice, sents: Sequence[Sent], *, started_s: float) -> list[Batch]:
        """Score requests in their order, as one batch where every row can be scored.

        A batch in which a row fails is scored again request by request, so that the failure and
        its reason stay with the request. A batch that takes longer than the arm's limit was late
        for each of its requests.
        """
        before_lookup = self._clock.monotonic_s()
        vectors = joined(sents, choice.float_names)
        times = [at for sent in sents for at in sent.times_us]
        looked_up = choice.served.lookup(vectors, times)
        picked = chosen(choice.route, [key for sent in sents for key in sent.keys])
        before_compute = self._clock.monotonic_s()
        try:
            scores = self.scorer.score(
                choice.scored_by,
                choice.served.models,
                looked_up.vectors,
                picked,
                whole=len(sents) > 1,
            )
        except ScoringFailed:
            each = (self.score(choice, [sent], started_s=started_s) for sent in sents)
            return [batch for batches in each for batch in batches]
        predictions = self._ids.several(len(sents))
        if len(picked) == len(sents) and not any(s.scored.failed for s in scores.values()):
            answered = _of_one_row(choice, sents, looked_up, picked, scores, predictions)
        else:
            answered = _of_many_rows(choice, sents, looked_up, picked, scores, predictions)
        done = self._clock.monotonic_s()
        timing = Timing(
            before_lookup - started_s, before_compute - before_lookup, done - before_compute
        )
        return [Batch(answered, looked_up, timing)]


def _of_one_row(
    choice: Choice,
    sents: Sequence[Sent],
    looked_up: LookedUp,
    picked: Sequence[Arm],
    scores: Mapping[str, ArmScore],
    predictions: Sequence[Id],
) -> list[Scored]:
    """Make the answers where nothing failed, out of what all answers of an arm share."""
    values = {version: score.values.tolist() for version, score in scores.items()}
    packed = [
        (version, values[version], score.values.tobytes(), score.latency_us)
        for version, score in scores.items()
    ]
    as_sent = not looked_up.views
    answered = []
    for i, sent in enumerate(sents):
        version = picked[i].version
        single = choice.single[version]
        answer = Answer(
            predictions[i],
            [values[version][i]],
            single.versions,
            single.roles,
            choice.as_chosen,
            NO_ERRORS,
        )
        outputs = {
            name: ArmOutput(content[8 * i : 8 * i + 8], [], None, latency_us)
            for name, column, content, latency_us in packed
            # NaN: a row of another arm; without a rollout each row is scored by its own.
            if column[i] == column[i]
        }
        answered.append(
            Scored(
                sent,
                answer,
                sent.floats if as_sent else looked_up.vectors.floats[:, i].tobytes(),
                looked_up.views if as_sent else _views(looked_up, i, i + 1),
                single.versions,
                single.propensity,
                outputs,
            )
        )
    return answered


def _of_many_rows(
    choice: Choice,
    sents: Sequence[Sent],
    looked_up: LookedUp,
    picked: Sequence[Arm],
    scores: Mapping[str, ArmScore],
    predictions: Sequence[Id],
) -> list[Scored]:
    answered = []
    end = 0
    for sent, prediction in zip(sents, predictions, strict=True):
        begin, end = end, end + len(sent.keys)
        arms = picked[begin:end]
        own = dict(scores) if len(sents) == 1 else _cut(scores, begin, end)
        settled = settle(choice.route, arms, own)
        versions = [arm.version for arm in arms]
        answer = Answer(
            prediction,
            settled.outputs,
            settled.versions,
            settled.roles,
            [a != b for a, b in zip(versions, settled.versions, strict=True)],
            settled.errors,
        )
        answered.append(
            Scored(
                sent,
                answer,
                looked_up.vectors.floats[:, begin:end].tobytes()
                if looked_up.views
                else sent.floats,
                _views(looked_up, begin, end),
                versions,
                [choice.propensity(arm) for arm in arms],
                {version: score.output() for version, score in own.items()},
            )
        )
    return answered


def _cut(scores: Mapping[str, ArmScore], begin: int, end: int) -> dict[str, ArmScore]:
    """Give a request's part of a batch's scores: of the arms that it had rows for."""
    found = {}
    for version, score in scores.items():
        values = score.values[begin:end]
        if (values == values).any():
            rows = [row - begin for row in score.scored.failed if begin <= row < end]
            error = score.scored.error if rows else None
            found[version] = ArmScore(
                Values(values, rows, error), score.latency_us, score.timed_out
            )
    return found


def _views(looked_up: LookedUp, begin: int, end: int) -> dict[str, ViewUse]:
    return {
        name: ViewUse(use.times_us[begin:end], use.arrivals_us[begin:end])
        for name, use in looked_up.views.items()
    }
