"""Locations: elsewhere is kept, here is plain, this machine's disk is neither."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import InvalidInput
from mainspring.tracking.location import checked_location, is_own, own_path


@pytest.mark.parametrize(
    "location",
    ["s3://bucket/a b", "gs://b/x?versionId=3", "https://host/x", "mlflow-artifacts:/0", "dbfs:/x"],
)
def test_a_remote_store_and_this_server_are_kept_as_given(location: str) -> None:
    assert checked_location(location, what="location") == location


def test_one_with_a_host_is_not_this_server() -> None:
    assert is_own("mlflow-artifacts:/0/x")
    assert is_own("mlflow-artifacts:///0/x")
    assert not is_own("mlflow-artifacts://elsewhere/0/x")
    assert own_path("mlflow-artifacts:///0/x/") == "0/x"


@given(
    st.sampled_from(["/etc/x", "etc/x", "../x", "file:///x", "s3://b/../x", "c:\\x"]),
    st.integers(0, 5),
)
def test_no_number_of_encodings_hides_a_path_of_the_machine(path: str, times: int) -> None:
    for _ in range(times):
        path = quote(path, safe="")

    with pytest.raises(InvalidInput, match="paths of the server's machine are not served"):
        checked_location(path, what="location")
