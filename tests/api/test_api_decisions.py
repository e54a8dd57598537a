"""What people decide: each decision rests on what was seen, and never leaves the gate out."""

from typing import TYPE_CHECKING

import pytest

from mainspring.core.errors import InvalidInput, NotPermitted, Refused, StaleSubject

if TYPE_CHECKING:
    from tests.api.conftest import World


def test_of_two_approvers_who_saw_the_same_the_second_is_told_to_read_again(
    asked: "World",
) -> None:
    first, second = asked.client_of("approver", "ann"), asked.client_of("approver", "ben")
    seen = first.endpoint("stop").seen
    assert second.endpoint("stop").seen == seen

    done = first.answer_approval("stop", "2", True, "looks right", expect=seen)
    facts = asked.facts()
    with pytest.raises(StaleSubject, match="read it again"):
        second.answer_approval("stop", "2", False, "looks wrong", expect=seen)

    assert done.event == "Approved"
    assert asked.facts() == facts
    assert asked.client.events(after=done.fact - 1).facts[0].actor == "ann"


def test_of_two_promotions_that_rest_on_the_same_report_one_is_done(asked: "World") -> None:
    seen = asked.client.endpoint("stop").seen

    asked.client_of("approver", "ann").promote("stop", "2", "now", expect=seen)

    with pytest.raises(StaleSubject, match="read it again"):
        asked.client_of("approver", "ben").promote("stop", "2", "now", expect=seen)
    assert asked.client.endpoint("stop").live == "2"


def test_an_approved_rollout_starts_and_can_be_ended(asked: "World") -> None:
    ann = asked.client_of("approver", "ann")
    ann.answer_approval("stop", "2", True, "looks right")
    until = asked.client.endpoint("stop").now
    assert until is not None

    started = asked.client.advance("stop", until)
    ended = ann.roll_back("stop", "not today")

    assert started.error is None
    assert "StartRollout" in started.steps
    assert ended.event == "RolledBack"
    assert asked.client.endpoint("stop").live == "1"


def test_a_declined_version_is_not_rolled_out(asked: "World") -> None:
    asked.client_of("approver", "ann").answer_approval("stop", "2", False, "no")
    until = asked.client.endpoint("stop").now
    assert until is not None

    settled = asked.client.advance("stop", until)

    report = asked.client.endpoint("stop")
    assert (settled.error, report.live, report.rollouts) == (None, "1", ())
    with pytest.raises(Refused, match="version 2 does not wait for an approval"):
        asked.client.answer_approval("stop", "2", True, "yes after all")


@pytest.mark.parametrize(
    ("version", "told"),
    [("1", "pass against another version"), ("9", "no verdict"), ("", "no verdict")],
)
def test_a_version_without_a_pass_against_the_live_one_is_not_promoted(
    asked: "World", version: str, told: str
) -> None:
    facts = asked.facts()

    with pytest.raises(Refused, match=told):
        asked.client_of("approver", "ann").promote("stop", version, "I know better")

    assert asked.facts() == facts


def test_a_decision_needs_a_reason_and_the_role(asked: "World") -> None:
    facts = asked.facts()

    with pytest.raises(InvalidInput, match="needs a comment"):
        asked.client_of("approver", "ann").answer_approval("stop", "2", True, "  ")
    with pytest.raises(NotPermitted, match="found role editor, expected approver"):
        asked.client_of("editor", "eve").answer_approval("stop", "2", True, "mine")

    assert asked.facts() == facts
