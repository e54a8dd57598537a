"""The door to the outside: what it calls, and what no URL can make it call."""

import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mainspring.core.errors import InvalidInput, NotPermitted, Unavailable
from mainspring.outbound.door import Door


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.taken.append((dict(self.headers), self.rfile.read(size)))  # type: ignore[attr-defined]
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/")
        else:
            self.send_response(204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def listening() -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.taken = []  # type: ignore[attr-defined]
    return server


@pytest.fixture
def receiver() -> Iterator[http.server.ThreadingHTTPServer]:
    server = listening()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.HTTPServer]:
    """A receiver behind TLS, with a certificate of its own that is trusted here."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "both.pem").write_bytes(pem + secret)
    (tmp_path / "trusted.pem").write_bytes(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    server = listening()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_body_is_posted_to_a_host_that_is_allowed(
    receiver: http.server.ThreadingHTTPServer,
) -> None:
    host = f"127.0.0.1:{receiver.server_port}"

    assert Door(host).post(f"http://{host}/in?x=1", b"{}", {"X-One": "1"}) == 204

    headers, body = receiver.taken[0]  # type: ignore[attr-defined]
    assert (headers["Host"], headers["X-One"], body) == (host, "1", b"{}")


def test_over_tls_the_certificate_must_be_for_the_name(secure: http.server.HTTPServer) -> None:
    port = secure.server_port

    assert Door(f"localhost:{port}").post(f"https://localhost:{port}/", b"{}", {}) == 204
    with pytest.raises(Unavailable):
        Door("ip6-localhost").post(f"https://ip6-localhost:{port}/", b"{}", {})


def test_a_redirect_is_an_answer_and_is_not_followed(
    receiver: http.server.ThreadingHTTPServer,
) -> None:
    host = f"127.0.0.1:{receiver.server_port}"

    assert Door(host).post(f"http://{host}/moved", b"", {}) == 302


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
        "127.1",
        "[fe80::1]",
        "[fd00::1]",
        "224.0.0.1",
        "[64:ff9b::7f00:1]",
    ],
)
def test_no_address_inside_is_called(host: str) -> None:
    with pytest.raises((NotPermitted, InvalidInput, Unavailable)) as refused:
        Door("").post(f"https://{host}/", b"", {})

    assert "not public" in str(refused.value) or "no address" in str(refused.value)


def test_a_name_with_one_address_inside_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)

    with pytest.raises(NotPermitted, match="not public"):
        Door("").post("https://two.example/", b"", {})


def test_the_address_that_was_checked_is_the_one_that_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up, called = [], []

    def once(*_: object, **__: object) -> list[object]:
        looked_up.append(1)
        address = "93.184.216.34" if len(looked_up) == 1 else "127.0.0.1"
        return [(2, 1, 6, "", (address, 443))]

    def connect(place: tuple[str, int], **_: object) -> socket.socket:
        called.append(place)
        raise TimeoutError

    monkeypatch.setattr(socket, "getaddrinfo", once)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Unavailable):
        Door("").post("https://changing.example/", b"", {})

    assert (looked_up, called) == ([1], [("93.184.216.34", 443)])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a.example/",
        "file:///etc/passwd",
        "https:///path",
        "https://user:secret@a.example/",
        "https://a.example:99999/",
        "https://a.example/\r\nX: y",
        "https://a.example/ b",
        "https://[::1",
        "https://" + "a" * 3000,
        "gopher://a.example",
    ],
)
def test_what_is_no_url_of_a_web_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        Door("a.example").check(url)


def test_without_tls_only_allowed_hosts() -> None:
    with pytest.raises(InvalidInput, match="outbound_hosts"):
        Door("other.example").check("http://a.example/")
    assert Door("A.example").check("http://a.EXAMPLE./x").host == "a.example"
