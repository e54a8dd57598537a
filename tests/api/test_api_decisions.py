from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.api.conftest import World
def test_x(asked: "World") -> None:
    print(asked.client.status(), asked.client.endpoint("stop").versions)
    assert 0
