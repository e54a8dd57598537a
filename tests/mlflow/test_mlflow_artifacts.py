"""Artifacts through the unmodified client, and every way out of them that an attacker may try."""

import hashlib
import http.client
import os
import resource
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_face import Face

from mainspring.core.ids import Id

TRAVERSALS = (
    "../../secret.txt",
    "..%2f..%2fsecret.txt",
    "%2e%2e/%2e%2e/secret.txt",
    "%252e%252e%252fsecret.txt",
    "%25252e%25252e%25252fsecret.txt",
    "..%5c..%5csecret.txt",
    "..%255csecret.txt",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "a//b",
    "./a",
    "a/./b",
    "a%00b",
    "a%0ab",
    "file:%2f%2f%2fetc%2fpasswd/../x",
    "....//....//secret.txt/..",
)


@pytest.fixture
def run(client: MlflowClient) -> str:
    return str(client.create_run("0").info.run_id)


def proxy(run: str, path: str) -> str:
    return f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/{path}"


@pytest.mark.filterwarnings("ignore:For backward compatibility")
def test_files_and_folders_go_up_and_come_back_the_same(
    client: MlflowClient, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "big.bin").write_bytes(os.urandom(3_000_000))
    (folder / "deep" / "er" / "ünï cöde 50%.txt").write_text("ä")
    (folder / "empty").write_bytes(b"")

    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), "made")
        mlflow.log_artifact(str(folder / "big.bin"))
        mlflow.log_dict({"a": [1, 2]}, "conf/a.json")
        mlflow.log_text("hello", "notes/a.txt")
        mlflow.log_table({"x": [1, 2], "y": ["a", "b"]}, "table.json")

    run_id = run.info.run_id
    top = {one.path: one.is_dir for one in client.list_artifacts(run_id)}
    assert top == {"big.bin": False, "conf": True, "made": True, "notes": True, "table.json": False}
    sizes = {one.path: one.file_size for one in client.list_artifacts(run_id, "made")}
    assert sizes == {"made/big.bin": 3_000_000, "made/deep": None, "made/empty": 0}
    down = Path(mlflow.artifacts.download_artifacts(run_id=run_id, dst_path=str(tmp_path / "back")))
    for file in folder.rglob("*"):
        if file.is_file():
            assert (down / "made" / file.relative_to(folder)).read_bytes() == file.read_bytes()
    assert mlflow.load_table("table.json", run_ids=[run_id])["y"].tolist() == ["a", "b"]
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/conf/a.json") == {"a": [1, 2]}


def test_a_file_logged_again_is_the_new_one_and_a_deleted_one_is_gone(
    face: Face, client: MlflowClient, run: str
) -> None:
    client.log_text(run, "old", "a/b.txt")
    client.log_text(run, "new", "a/b.txt")
    client.log_text(run, "keep", "c.txt")

    assert face.ask("GET", proxy(run, "a/b.txt")).content == b"new"
    assert face.ask("DELETE", proxy(run, "a")).status == 200

    assert [one.path for one in client.list_artifacts(run)] == ["c.txt"]
    assert face.ask("GET", proxy(run, "a/b.txt")).told == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_file_is_given_as_an_attachment_that_no_page_runs(
    face: Face, client: MlflowClient, run: str
) -> None:
    client.log_text(run, "<script>alert(1)</script>", "page.html")
    client.log_text(run, "a: 1", "MLmodel")

    for address in (proxy(run, "page.html"), f"/get-artifact?run_uuid={run}&path=page.html"):
        answered = face.ask("GET", address)
        assert answered.status == 200
        assert answered.headers["Content-Disposition"].startswith("attachment")
        assert answered.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answered.headers["Content-Security-Policy"]
    assert face.ask("GET", proxy(run, "MLmodel")).headers["Content-Type"].startswith("text/plain")
    part = face.ask("GET", proxy(run, "page.html"), headers={"Range": "bytes=1-6"})
    assert (part.status, part.content) == (206, b"script")


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_spelling_of_a_path_leaves_the_run(
    face: Face, client: MlflowClient, run: str, tmp_path: Path, path: str
) -> None:
    canary = tmp_path / "secret.txt"
    canary.write_text("canary")
    content = home_files(face.home)

    for method, body in (("PUT", b"evil"), ("GET", None), ("DELETE", None)):
        answered = face.ask(method, proxy(run, path), body)
        assert 400 <= answered.status < 500, (method, answered.content)
        assert b"canary" not in answered.content
        assert b"root:" not in answered.content
    for listing in (
        f"/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}",
        f"/api/2.0/mlflow-artifacts/artifacts?path=0/{run}/artifacts/{path}",
        f"/get-artifact?run_id={run}&path={path}",
        f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path={path}",
    ):
        answered = face.ask("POST" if "upload" in listing else "GET", listing, b"")
        assert 400 <= answered.status < 500, (listing, answered.content)
    assert canary.read_text() == "canary"
    assert home_files(face.home) == content
    assert client.list_artifacts(run) == []


def home_files(home: Path) -> set[str]:
    return {str(f) for f in home.rglob("*") if f.is_file() and "mainspring.db" not in f.name}


def test_an_upload_needs_a_run_that_keeps_its_files_here(
    face: Face, client: MlflowClient, run: str
) -> None:
    elsewhere = client.create_experiment("far", artifact_location="s3://bucket/far")
    far = client.create_run(elsewhere).info

    assert far.artifact_uri == f"s3://bucket/far/{far.run_id}/artifacts"
    for path in (
        f"0/{'0' * 32}/artifacts/a.txt",
        f"far/{far.run_id}/artifacts/a.txt",
        f"{elsewhere}/{far.run_id}/artifacts/a.txt",
        f"1/{run}/artifacts/a.txt",
        f"0/{run}/a.txt",
        "a.txt",
    ):
        answered = face.ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", b"x")
        assert answered.told == (404, "RESOURCE_DOES_NOT_EXIST"), path
    assert face.ask("PUT", proxy(run, ""), b"x").status == 400


@pytest.mark.parametrize(
    "location",
    [
        "/tmp/x",
        "tmp/x",
        "./x",
        "../x",
        "file:///etc",
        "FILE:/etc",
        "file:etc",
        "%66ile:///etc",
        "%2566ile:///etc",
        "s3://bucket/../../x",
        "s3://bucket/%2e%2e/x",
        "s3://bucket/%252e%252e/x",
        "C:\\windows",
        "c:/windows",
        "\\\\host\\share",
        "mlflow-artifacts:/../x",
        "mlflow-artifacts:/a?b=../c",
        "mlflow-artifacts:/a#b",
        "s3://bucket/x\n",
        "runs:/abc/x",
    ],
)
def test_an_experiment_never_lies_on_the_servers_disk(face: Face, location: str) -> None:
    answered = face.post("experiments/create", {"name": "e", "artifact_location": location})

    assert answered.told == (400, "INVALID_PARAMETER_VALUE")
    assert face.get("experiments/get-by-name", experiment_name="e").status == 404


def test_a_long_upload_takes_little_memory_and_an_ended_one_leaves_nothing(
    face: Face, run: str
) -> None:
    piece = os.urandom(1 << 20)
    digest = hashlib.sha256()

    def pieces(count: int) -> Any:
        for number in range(count):
            part = number.to_bytes(4, "big") + piece[4:]
            digest.update(part)
            yield part

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection = http.client.HTTPConnection("127.0.0.1", face.port, timeout=60)
    connection.request(
        "PUT",
        face.prefix + proxy(run, "long.bin"),
        pieces(150),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    assert connection.getresponse().status == 200
    connection.close()
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert grown_kib < 60 * 1024
    tracked = face.project.tracking.get(Id(run)).artifacts["long.bin"]
    assert (tracked.digest, tracked.size_bytes) == (digest.hexdigest(), 150 << 20)

    broken = http.client.HTTPConnection("127.0.0.1", face.port, timeout=60)
    broken.putrequest("PUT", face.prefix + proxy(run, "broken.bin"))
    broken.putheader("Content-Length", str(10 << 20))
    broken.endheaders()
    broken.send(piece)
    broken.close()
    assert face.ask("GET", proxy(run, "broken.bin")).status == 404


def test_an_address_of_another_store_is_declined_not_broken(face: Face, run: str) -> None:
    answered = face.ask("GET", f"/api/2.0/mlflow-artifacts/presigned/0/{run}/artifacts/a")

    assert answered.told == (501, "NOT_IMPLEMENTED")


def test_a_missing_file_is_told_by_the_client(
    client: MlflowClient, run: str, tmp_path: Path
) -> None:
    with pytest.raises(MlflowException, match="Failed to download"):
        client.download_artifacts(run, "none.txt", str(tmp_path))
