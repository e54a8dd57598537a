"""Uploads in parts: through the unmodified client, broken off and gone on with, given up."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import _UnsupportedMultipartUploadException
from mlflow_face import Answered, Face, Served

from mainspring.store.uploads import Uploads

BASE = "/api/2.0/mlflow-artifacts"
FIRST, SECOND = b"a" * 70_000, b"b" * 5


@pytest.fixture
def run(client: MlflowClient) -> str:
    return str(client.create_run("0").info.run_id)


def root(run: str, folder: str = "models") -> str:
    return f"0/{run}/artifacts/{folder}"


def post(face: Face, step: str, run: str, body: dict[str, Any]) -> Answered:
    return face.ask("POST", f"{BASE}/mpu/{step}/{root(run)}", json.dumps(body).encode())


def begin(face: Face, run: str, count: int = 2) -> tuple[str, list[str]]:
    """Begin an upload; gives its id and the paths of its parts."""
    begun = post(face, "create", run, {"path": "work/big.bin", "num_parts": count}).json
    return begun["upload_id"], [urlsplit(one["url"]).path for one in begun["credentials"]]


def send(face: Face, path: str, content: bytes) -> str:
    answered = face.ask("PUT", path.removeprefix(face.prefix), content)
    assert answered.status == 200, answered.content
    return str(answered.headers["ETag"])


def test_a_client_sends_a_large_file_in_parts(
    face: Face, client: MlflowClient, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1000")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "300000")
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(1_000_001))

    client.log_artifact(run, str(large), "deep/er")

    assert [(one.path, one.file_size) for one in client.list_artifacts(run, "deep/er")] == [
        ("deep/er/large.bin", 1_000_001)
    ]
    back = Path(client.download_artifacts(run, "deep/er/large.bin", str(tmp_path / "back")))
    assert back.read_bytes() == large.read_bytes()
    with face.project.blobs.temporary() as folder:
        assert not [name for name in os.listdir(folder) if name.count(".")]


def test_an_upload_that_broke_off_goes_on_with_the_parts_that_are_missing(
    face: Face, client: MlflowClient, run: str
) -> None:
    upload, paths = begin(face, run)
    send(face, paths[1], b"an older try")
    second = send(face, paths[1], SECOND)

    there = face.ask("GET", f"{BASE}/mpu/parts/{upload}").json["parts"]

    assert there == [{"part_number": 2, "etag": second, "size": len(SECOND)}]
    assert client.list_artifacts(run) == []
    first = send(face, paths[0], FIRST)
    sent = [{"part_number": 1, "etag": first}, {"part_number": 2, "etag": second}]
    for _ in range(2):
        assert post(face, "complete", run, {"upload_id": upload, "parts": sent}).status == 200
    down = face.ask("GET", f"{BASE}/artifacts/{root(run)}/big.bin")
    assert down.content == FIRST + SECOND


@pytest.mark.parametrize("fault", ["digest", "missing", "order", "none"])
def test_an_upload_is_completed_only_with_the_parts_that_were_answered_for(
    face: Face, client: MlflowClient, run: str, fault: str
) -> None:
    upload, paths = begin(face, run)
    first, second = (
        send(face, path, part) for path, part in zip(paths, (FIRST, SECOND), strict=True)
    )
    parts = [{"part_number": 1, "etag": first}, {"part_number": 2, "etag": second}]
    wrong = {
        "digest": [parts[0], {"part_number": 2, "etag": first}],
        "missing": [*parts, {"part_number": 3, "etag": first}],
        "order": parts[::-1],
        "none": [],
    }[fault]

    refused = post(face, "complete", run, {"upload_id": upload, "parts": wrong})

    assert refused.told == (400, "INVALID_PARAMETER_VALUE")
    assert client.list_artifacts(run) == []
    assert post(face, "complete", run, {"upload_id": upload, "parts": parts}).status == 200


def test_an_upload_given_up_leaves_nothing_and_takes_no_more(face: Face, run: str) -> None:
    upload, paths = begin(face, run)
    send(face, paths[0], FIRST)

    assert [post(face, "abort", run, {"upload_id": upload}).status for _ in range(2)] == [200, 200]

    put = face.ask("PUT", paths[1].removeprefix(face.prefix), SECOND)
    assert put.told == (404, "RESOURCE_DOES_NOT_EXIST")
    with face.project.blobs.temporary() as folder:
        assert not [name for name in os.listdir(folder) if upload in name]


def test_nobody_writes_through_an_id_that_was_not_given(face: Face, run: str) -> None:
    for upload in ("0" * 32, "../../x", "x", "0" * 31 + "."):
        asked = face.ask("PUT", f"{BASE}/mpu/part/{upload}/1", b"x")
        assert asked.status == 404
    upload, paths = begin(face, run)
    etag = send(face, paths[0], FIRST)
    other = str(MlflowClient(face.url).create_run("0").info.run_id)
    body = {"upload_id": upload, "parts": [{"part_number": 1, "etag": etag}]}
    assert post(face, "complete", other, body).told == (400, "INVALID_PARAMETER_VALUE")
    for number in ("0", "10001"):
        path = paths[0].removeprefix(face.prefix)[:-1] + number
        assert face.ask("PUT", path, b"x").status == 400
    for path in ("..", "a/../..", ""):
        assert post(face, "create", run, {"path": path}).status == 400


def test_parts_are_sent_with_the_token_that_began_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "10")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "30000")
    (tmp_path / "a.bin").write_bytes(FIRST)
    served = Served(tmp_path / "home")
    try:
        access = served.platform.project("default").access
        access.grant("ann", "admin", actor="local")
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", access.issue("ann", actor="local").secret)
        face = Face(served, "default")
        monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", face.url)
        client = MlflowClient(face.url)
        run = client.create_run("0").info.run_id

        client.log_artifact(run, str(tmp_path / "a.bin"))

        assert client.list_artifacts(run)[0].file_size == len(FIRST)
        assert face.ask("PUT", f"{BASE}/mpu/part/{'0' * 32}/1", b"x").status == 401
    finally:
        served.close()


def test_a_client_that_names_no_run_is_sent_to_its_other_way(face: Face) -> None:
    for path in ("", "/sub"):
        told = face.ask("POST", f"{BASE}/mpu/create{path}", b'{"path": "a", "num_parts": 1}')

        assert told.told == (501, "NOT_IMPLEMENTED")
        # The words by which clients know.
        assert told.json["message"].startswith(_UnsupportedMultipartUploadException.MESSAGE)


def test_what_nobody_goes_on_with_is_swept(face: Face, run: str) -> None:
    upload, paths = begin(face, run)
    send(face, paths[0], FIRST)
    uploads = Uploads(face.project.blobs)
    now = face.platform.clock.now()

    assert uploads.sweep(now - timedelta(minutes=1)) == 0
    assert uploads.parts(upload).keys() == {1}
    assert uploads.sweep(now + timedelta(minutes=1)) >= 1
    assert uploads.parts(upload) == {}
