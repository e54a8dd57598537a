"""Keys stay where they are while a canary grows."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.serving_world import World, canary, live

from mainspring.core.ids import Digest
from mainspring.formats.routes import EndpointRoute
from mainspring.serving.router import choose, position

ROUTE = World.route(canary(Digest("b" * 64), 0.1), live(Digest("a" * 64), share=0.9))


def at(share: float, salt: str = "salt") -> EndpointRoute:
    first, last = ROUTE.arms
    replace = msgspec.structs.replace
    arms = (replace(first, share=share), replace(last, share=1 - share))
    return replace(ROUTE, salt=salt, arms=arms)


@settings(deadline=None, max_examples=200)
@given(
    key=st.text(),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=5),
    salt=st.text(max_size=16),
)
def test_a_growing_canary_moves_nobody_out_of_itself(
    key: str, shares: list[float], salt: str
) -> None:
    roles = [choose(at(share, salt), key).role for share in sorted(shares)]

    assert roles == sorted(roles, key=["live", "canary"].index)


@settings(deadline=None, max_examples=200)
@given(key=st.text())
def test_every_key_has_its_place_below_one_and_the_ends_are_exact(key: str) -> None:
    assert 0 <= position("salt", key) < 1
    assert (choose(at(0.3), key).role == "canary") is (position("salt", key) < 0.3)
    assert choose(at(0.0), key).role == "live"
    assert choose(at(1.0), key).role == "canary"


def test_shares_are_met_within_sampling_error_and_salts_are_independent() -> None:
    keys = [f"flight{i}" for i in range(20_000)]
    picked = [choose(at(0.1), key).role == "canary" for key in keys]
    other = [choose(at(0.1, "other"), key).role == "canary" for key in keys]
    both = sum(a and b for a, b in zip(picked, other, strict=True))

    # Five standard deviations of the binomial.
    assert abs(sum(picked) - 2000) < 5 * (20_000 * 0.09) ** 0.5
    assert abs(both - 200) < 5 * (20_000 * 0.01) ** 0.5


def test_the_place_of_a_key_never_changes_between_releases() -> None:
    assert position("salt", "flight0") == 0.7112912775818164
