"""Which arm a key gets: sticky, by hash, with the live arm taking what the others leave."""

from collections.abc import Sequence
from hashlib import blake2b

from mainspring.formats.routes import Arm, EndpointRoute

_SPAN = float(1 << 64)


def choose(route: EndpointRoute, key: str) -> Arm:
    """Give the arm of a key: always the same one while the shares stand.

    The live arm is last, so raising a canary's share only moves keys from the live arm to it.
    """
    arms = route.arms
    if len(arms) > 1:
        point = position(route.salt, key)
        upto = 0.0
        for arm in arms[:-1]:
            upto += arm.share
            if point < upto:
                return arm
    return arms[-1]


def position(salt: str, key: str) -> float:
    """Place a key on [0, 1): 64 bits of its BLAKE2b, keyed with the endpoint's salt."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode())
    # A double has 53 bits: without the cut the topmost keys would round up to 1.0.
    return (int.from_bytes(digest.digest(), "big") >> 11 << 11) / _SPAN


def chosen(route: EndpointRoute, keys: Sequence[str]) -> list[Arm]:
    """Give the arm of each key."""
    if len(route.arms) == 1:
        return [route.arms[0]] * len(keys)
    return [choose(route, key) for key in keys]
