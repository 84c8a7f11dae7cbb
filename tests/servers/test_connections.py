"""The bounded cost of a connection before its request is known, in real servers of the issuer and the example.

Heads, bodies, slow clients, many connections, and offers of other protocols. The limits are those of
`issuer.connections`.
"""

import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple, Self

import httpx2
import pytest
from support.certificates import certificate
from support.servers import HOST, PATIENCE_SECONDS, Installation, Server, eventually, free_port
from websockets.sync.client import connect

LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FORM = b"Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
DRIBBLE_SECONDS = 0.1
MANY = 500
FEW_DESCRIPTORS = 128


class Service(NamedTuple):
    """One of the two services as it runs."""

    server: Server
    port: int
    path: str
    """What takes POST in the issuer; in the example nothing does."""
    refuses: bytes
    """The status of a POST without credentials."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    with Installation(tmp_path_factory.mktemp("both")) as installation:
        issuer, example = installation.serve(), installation.serve_service()
        plain = installation.serve_service_by_uvicorn()
        yield {
            "issuer": Service(issuer.until_ready(), installation.port, "/oauth2/token", b"401"),
            "example": Service(example.until_ready(), installation.service_port, "/me", b"405"),
            "uvicorn": Service(plain.until_ready(), plain.port, "/me", b"405"),
        }


@pytest.fixture(params=["issuer", "example", "uvicorn"])
def service(request: pytest.FixtureRequest, both: dict[str, Service]) -> Service:
    """Either service; the example by its own command, and by plain uvicorn."""
    found: Service = both[request.param]
    return found


def exchange(port: int, *parts: bytes) -> bytes:
    """Send the parts, and return everything that is answered until the server closes the connection."""
    with socket.create_connection((HOST, port), timeout=PATIENCE_SECONDS) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        with suppress(ConnectionError):
            while data := connection.recv(65536):
                received += data
        return received


def statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)


def post(path: str, headers: bytes = b"", body: bytes = b"grant_type=client_credentials") -> bytes:
    length = b"" if b"Transfer-Encoding" in headers else b"Content-Length: %d\r\n" % len(body)
    return b"POST %s HTTP/1.1\r\n" % path.encode() + FORM + length + headers + b"\r\n" + body


def get(headers: bytes = b"Host: x\r\n", target: bytes = b"/healthz", version: bytes = b"1.1") -> bytes:
    return b"GET %s HTTP/%s\r\n%s\r\n" % (target, version, headers)


COSTLY: dict[str, tuple[bytes, set[bytes]]] = {
    "one large header": (get(b"Host: x\r\nA: " + b"a" * 33_000 + b"\r\n"), {b"431"}),
    "a header without end": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 8_000_000, {b"431"}),
    "blanks without end": (b"GET / HTTP/1.1\r\nHost: x\r\nA:" + b" " * 200_000, {b"431"}),
    "a name without end": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A" * 200_000, {b"431"}),
    "many headers": (get(b"Host: x\r\n" + b"A: b\r\n" * 100), {b"431"}),
    "headers without end": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200_000, {b"431"}),
    "headers that are large together": (
        get(b"Host: x\r\n" + (b"A: " + b"b" * 900 + b"\r\n") * 37),
        {b"431"},
    ),
    "a long target": (get(target=b"/" + b"a" * 9_000), {b"414"}),
    "a target without end": (b"GET /" + b"a" * 8_000_000, {b"414"}),
    "a method without end": (b"G" * 200_000, {b"400"}),
    "a long chunk extension": (post("/me", CHUNKED, b"1;" + b"a" * 200_000), {b"400", b"405"}),
    "trailers without end": (post("/me", CHUNKED, b"0\r\n" + b"A: b\r\n" * 40_000), {b"400", b"405"}),
    "tiny chunks": (post("/me", CHUNKED, b"1\r\na\r\n" * 60_000), {b"400", b"404", b"405"}),
    "a chunked body without end": (
        post("/me", CHUNKED, (b"2000\r\n" + b"a" * 0x2000 + b"\r\n") * 400),
        {b"404", b"405", b"413"},
    ),
    "a large body": (post("/me", body=b"a" * 8_000_000), {b"404", b"405", b"413"}),
}


@pytest.mark.parametrize("case", COSTLY)
def test_what_would_cost_much_is_refused_with_an_answer_and_the_connection_closed(
    service: Service, case: str
) -> None:
    request, expected = COSTLY[case]
    answers = exchange(service.port, request)  # until the service closes the connection
    assert len(statuses(answers)) == 1
    assert statuses(answers)[0] in expected
    # A chunked body is known to be large only later, perhaps after the answer has been sent.
    assert b"\r\nconnection: close\r\n" in answers or CHUNKED in request


def test_what_is_as_large_as_allowed_is_answered(service: Service) -> None:
    large = get(b"Host: x\r\nA: " + b"a" * 31_000 + b"\r\n")
    many = get(b"Host: x\r\n" + b"A: b\r\n" * 99)
    assert statuses(exchange(service.port, large, many, LAST)) == [b"200"] * 3
    long = get(target=b"/" + b"a" * 8_000)
    assert statuses(exchange(service.port, long, LAST)) == [b"404", b"200"]


def test_a_refusal_is_an_oauth_error_and_neither_it_nor_the_log_repeats_the_request(service: Service) -> None:
    answer = exchange(service.port, get(b"Host: x\r\nA: " + b"stranger" * 10_000 + b"\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"cache-control: no-store" in head
    assert b'"error": "invalid_request"' in body
    assert b"32768 bytes" in body
    assert b"stranger" not in answer
    exchange(service.port, b"stranger\x1b[31m / HTTP/1.1\r\n\r\n")
    assert "stranger" not in service.server.output


MALFORMED: dict[str, bytes] = {
    "no Host": get(b""),
    "two Hosts": get(b"Host: a\r\nHost: b\r\n"),
    "the same Host twice": get(b"Host: a\r\nHost: a\r\n"),
    "a Host with a blank": get(b"Host: a b\r\n"),
    "a Host with a path": get(b"Host: a/b\r\n"),
    "a Host with a user": get(b"Host: a@b\r\n"),
    "two Hosts in one line": get(b"Host: a,b\r\n"),
    "Content-Length and Transfer-Encoding": post("/me", CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"),
    "Transfer-Encoding and Content-Length": post("/me", b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    "two Content-Lengths": post("/me", b"Content-Length: 5\r\n"),
    "a Content-Length that is a list": b"POST /me HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
    "a Content-Length with a sign": b"POST /me HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
    "a negative Content-Length": b"POST /me HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\na",
    "an enormous Content-Length": b"POST /me HTTP/1.1\r\nHost: x\r\nContent-Length: 9"
    + b"9" * 30
    + b"\r\n\r\n",
    "chunked, then identity": post("/me", b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "gzip, then chunked": post("/me", b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "a coding like chunked": post("/me", b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "a coding after a tab": post("/me", b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n"),
    "two codings": post("/me", CHUNKED + CHUNKED, b"0\r\n\r\n"),
    "chunked in HTTP/1.0": b"POST /me HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk size": post("/me", CHUNKED, b"zz\r\n"),
    "a blank after a chunk size": post("/me", CHUNKED, b"1 \r\na\r\n0\r\n\r\n"),
    "a trailer that frames": post("/me", CHUNKED, b"0\r\nContent-Length: 50\r\n\r\n"),
    "a folded header": get(b"Host: x\r\nA: b\r\n c\r\n"),
    "bare line feeds": get().replace(b"\r\n", b"\n"),
    "a bare carriage return": get(b"Host: x\r\nA: b\rc\r\n"),
    "a blank before a colon": get(b"Host : x\r\n"),
    "NUL in a header": get(b"Host: x\r\nA: \0\r\n"),
    "NUL in the target": get(target=b"/\0"),
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/2.0": get(version=b"2.0"),
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
    "an authority as the target": get(target=b"x:443"),
    "a target of another scheme": get(target=b"ftp://x/healthz"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_two_servers_could_read_differently_is_refused_and_nothing_after_it_is_read(
    service: Service, case: str
) -> None:
    answers = exchange(service.port, get(), MALFORMED[case], LAST)
    found = statuses(answers)
    # A body that turns out to be malformed may have been answered before.
    assert found in ([b"200", b"400"], [b"200", b"405"], [b"200", b"404"]), answers
    assert b"connection: close" in answers or b'"error"' in answers


@pytest.mark.parametrize(
    "request_",
    [
        get(b"Host: [::1]:8000\r\n"),
        get(b"Host: \r\n"),
        get(b"Host: y\r\n", b"http://x/healthz"),
        get(b"Host: y\r\n", b"http://x:80/healthz?a"),
        b"\r\n" + get(),
        get(b"Host:\t x \t \r\nContent-Length: 0 \r\n"),
        post("/me", b"Transfer-Encoding:  Chunked \r\n", b"0\r\n\r\n").replace(b"POST /me", b"GET /healthz"),
    ],
    ids=[
        "IPv6",
        "no authority",
        "a URL as the target",
        "a URL with a query",
        "after an empty line",
        "blanks around values",
        "a coding in capitals with blanks",
    ],
)
def test_what_is_unusual_and_allowed_is_answered(service: Service, request_: bytes) -> None:
    assert statuses(exchange(service.port, request_, LAST)) == [b"200", b"200"]


def test_options_of_the_whole_server_are_answered_without_content(service: Service) -> None:
    answers = exchange(service.port, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", LAST)
    assert statuses(answers) == [b"204", b"200"]
    assert b"content-length" not in answers.partition(b"\r\n\r\n")[0].lower()


def test_http_1_0_needs_no_host(service: Service) -> None:
    assert statuses(exchange(service.port, get(b"", version=b"1.0"))) == [b"200"]


OFFERS = {
    "h2c": H2C,
    "h2c on a connection of two lines": b"Connection: keep-alive\r\n" + H2C,
    "TLS": b"Connection: upgrade\r\nUpgrade: TLS/1.2\r\n",
    "WebSocket with a body": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "several": b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
}


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_of_another_protocol_is_ignored_and_each_request_has_one_answer(
    service: Service, offer: str
) -> None:
    body, headers = b"grant_type=client_credentials", OFFERS[offer]
    for request in (
        post(service.path, headers, body),
        post(service.path, headers + CHUNKED, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)),
        post(service.path, headers, body) * 5,
    ):
        number = request.count(b"POST ")
        expected = [service.refuses] * number + [b"200"]
        assert statuses(exchange(service.port, request, LAST)) == expected
        assert statuses(exchange(service.port, request[:60], request[60:-3], request[-3:], LAST)) == expected
    if service.path == "/oauth2/token":  # the body was read: without it the grant would be missing
        assert b"invalid_client" in exchange(service.port, post(service.path, headers, body), LAST)


JAVA = """
import java.net.URI;
import java.net.http.*;
public class Ask {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < 2; i++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(args[0]))
                .header("Content-Type", "application/x-www-form-urlencoded")
                .POST(HttpRequest.BodyPublishers.ofString(args[1])).build();
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
        }
    }
}
"""


def ask_by_java(url: str, form: str, folder: Path) -> list[str]:
    (folder / "Ask.java").write_text(JAVA)
    return run(["java", str(folder / "Ask.java"), url, form])


def ask_by_curl(url: str, form: str, _folder: Path) -> list[str]:
    status = ["--output", "/dev/null", "--write-out", "%{http_code}\\n"]
    return run(["curl", "--silent", "--noproxy", "*", "--http2", *status, "--data", form, url, *status, url])


def run(command: list[str]) -> list[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    ).stdout.split()


@contextmanager
def nginx(folder: Path, port: int) -> Iterator[int]:
    """Stand nginx before a port with the lines that its documentation gives for WebSocket; yield where."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    at = free_port()
    (folder / "nginx.conf").write_text(f"""
        daemon off; pid {folder}/pid; error_log stderr; events {{}}
        http {{
            access_log off;
            client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
            uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
            server {{
                listen {HOST}:{at};
                location / {{
                    proxy_pass http://{HOST}:{port};
                    proxy_http_version 1.1;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection "upgrade";
                }}
            }}
        }}
    """)
    with subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-e", "stderr"]) as process:
        try:
            eventually(lambda: answers(at), "nginx answers")
            yield at
        finally:
            process.terminate()


def answers(port: int) -> bool:
    with suppress(OSError):
        return statuses(exchange(port, LAST)) == [b"200"]
    return False


@pytest.mark.parametrize("ask", [ask_by_java, ask_by_curl])
def test_clients_that_offer_h2c_get_tokens_directly_and_through_nginx(
    founded: Installation, tmp_path: Path, ask: Callable[[str, str, Path], list[str]]
) -> None:
    founded.serve().until_ready()
    name, secret = founded.machine
    form = f"grant_type=client_credentials&client_id={name}&client_secret={secret}"
    assert ask(f"{founded.url}/oauth2/token", form, tmp_path)[0] == "200"
    with nginx(tmp_path, founded.port) as at:
        assert ask(f"http://{HOST}:{at}/oauth2/token", form, tmp_path)[0] == "200"


def test_websockets_go_on_working_directly_and_through_nginx(
    installation: Installation, tmp_path: Path
) -> None:
    installation.serve().until_ready()
    services = [
        installation.serve_service().until_ready(),
        installation.serve_service_by_uvicorn().until_ready(),
    ]
    token = installation.token()
    with ExitStack() as stack:
        for number, service in enumerate(services):
            folder = tmp_path / str(number)
            folder.mkdir()
            for port in (service.port, stack.enter_context(nginx(folder, service.port))):
                with connect(
                    f"ws://{HOST}:{port}/greetings", subprotocols=["bearer", token], proxy=None
                ) as it:  # type: ignore[list-item]
                    assert "Hello" in str(it.recv(10))
                    it.send("again")
                    assert "Hello" in str(it.recv(10))


def test_100_continue_is_sent_before_a_body_that_will_be_read(service: Service) -> None:
    expecting = post(service.path, b"Expect: 100-continue\r\n")
    assert statuses(exchange(service.port, expecting, LAST)) == [b"100", service.refuses, b"200"]
    large = b"POST /login HTTP/1.1\r\n" + FORM + b"Content-Length: 9000000\r\nExpect: 100-continue\r\n\r\n"
    refused = exchange(service.port, large, LAST)
    assert statuses(refused)[0] in {b"413", b"404"}
    assert b"connection: close" in refused


def test_many_pipelined_requests_are_answered_in_order_beside_others(service: Service) -> None:
    pipelined = (get() + get(target=b"/nothing")) * 400
    assert statuses(exchange(service.port, pipelined, LAST)) == [b"200", b"404"] * 400 + [b"200"]


def test_what_follows_a_request_is_answered_after_it_even_if_it_is_refused(service: Service) -> None:
    assert statuses(exchange(service.port, get() * 3 + get(b""))) == [b"200"] * 3 + [b"400"]


def test_however_requests_are_cut_each_has_its_one_answer_in_order(service: Service) -> None:
    body = b"grant_type=client_credentials"
    pieces = b"%x;a=b\r\n%s\r\n" % (5, body[:5]) + b"%x\r\n%s\r\n0\r\nA: b\r\n\r\n" % (
        len(body) - 5,
        body[5:],
    )
    good = [
        (get(), b"200"),
        (get(b"Host: x\r\n" + H2C, b"/nothing"), b"404"),
        (b"\r\n" + get(target=b"http://x/healthz"), b"200"),
        *((post(service.path, headers, body), service.refuses) for headers in (b"", H2C)),
        *((post(service.path, CHUNKED + headers, pieces), service.refuses) for headers in (b"", H2C)),
    ]
    last = [
        (LAST, b"200"),
        (get(b"") + LAST, b"400"),
        (get(target=b"/" + b"a" * 9_000) + LAST, b"414"),
        (get(b"Host: x\r\n" + b"A: b\r\n" * 200) + LAST, b"431"),
    ]
    random = Random(1)  # noqa: S311 - nothing secret, and the same each time
    for _ in range(60):
        requests = [*random.choices(good, k=random.randint(0, 9)), random.choice(last)]
        sent = b"".join(request for request, _ in requests)
        cuts = sorted({0, len(sent), *random.choices(range(len(sent)), k=random.choice([0, 1, 3, 20]))})
        answers = exchange(service.port, *(sent[start:end] for start, end in pairwise(cuts)))
        found = [service.refuses if each == b"429" else each for each in statuses(answers)]
        assert found == [status for _, status in requests], sent


def test_a_body_that_turns_out_to_be_malformed_after_the_answer_gets_no_second_one(service: Service) -> None:
    begun = post("/nothing", CHUNKED, b"1\r\na\r\n")
    with socket.create_connection((HOST, service.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(begun)
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        connection.sendall(b"zz\r\n" + LAST)
        with suppress(ConnectionError):
            while data := connection.recv(65536):
                received += data
    assert statuses(received) == [b"404"]


# Time


def start(installation: Installation, which: str, *options: str) -> Server:
    serve = installation.serve if which == "issuer" else installation.serve_service
    return serve(*options).until_ready() if which == "issuer" else serve(*options).until_alive()


@pytest.mark.parametrize("which", ["issuer", "example"])
def test_a_slow_head_a_slow_body_and_a_silent_connection_end(founded: Installation, which: str) -> None:
    server = start(founded, which, "--head-timeout", "1", "--body-timeout", "1", "--keep-alive", "1")
    slow = {
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ": [b"408"],
        post("/login", body=b"a" * 100)[:-50]: [b"408"] if which == "issuer" else [b"404"],
        b"": [],
        get(): [b"200"],  # and nothing more
        get() + b"GET /": [b"200", b"408"],
        b"\r\n": [],
    }
    with ExitStack() as stack:
        connections = {}
        for sent in slow:
            connection = stack.enter_context(
                socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS)
            )
            connection.sendall(sent)
            connections[sent] = connection
        for sent, connection in connections.items():
            with connection.makefile("rb") as received:
                assert statuses(received.read()) == slow[sent], sent
    assert "head_timeout" in server.output


def dribble(connection: socket.socket, data: bytes, over: threading.Event) -> None:
    with suppress(OSError):
        while not over.wait(DRIBBLE_SECONDS):
            connection.sendall(data)


@pytest.mark.parametrize("which", ["issuer", "example"])
def test_a_byte_now_and_then_prolongs_nothing(founded: Installation, which: str) -> None:
    server = start(founded, which, "--head-timeout", "1", "--body-timeout", "1")
    for sent in (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ",
        post("/login", body=b"a" * 9000)[:-8000],
        b"\r\n",
    ):
        over = threading.Event()
        with socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(sent)
            thread = threading.Thread(
                target=dribble, args=(connection, b"\r\n" if sent == b"\r\n" else b"a", over)
            )
            thread.start()
            try:
                with suppress(ConnectionError):
                    while connection.recv(65536):
                        pass
            finally:
                over.set()
                thread.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_idle_connection_is_kept_for_longer_than_a_minute_unless_the_operator_says_otherwise(
    founded: Installation, workers: int
) -> None:
    server = founded.serve("--keep-alive", "1", workers=workers).until_ready()
    with closing(HTTPConnection(HOST, server.port, timeout=PATIENCE_SECONDS)) as kept:
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()
        assert kept.sock.recv(1) == b""
    help_ = founded.command("serve", "--help").out
    assert re.search(r"--keep-alive.*", help_)
    assert "75" in help_


def test_a_tls_handshake_that_never_ends_is_ended_and_counts_as_a_connection(
    founded: Installation, tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    options = ["--ssl-certfile", str(cert), "--ssl-keyfile", str(key), "--head-timeout", "2"]
    server = founded.serve(*options, "--max-connections", "20")
    context = ssl.create_default_context(cafile=str(cert))

    def ask() -> bool:
        with suppress(httpx2.TransportError):
            url = f"https://{HOST}:{server.port}/healthz"
            return httpx2.get(url, verify=context, trust_env=False).is_success
        return False

    eventually(ask, "it serves")
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS))
            for _ in range(100)
        ]
        assert ask()
        for connection in silent:
            with suppress(ConnectionError):
                assert connection.recv(100) == b""
        assert ask()


# Many


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


class User:
    """Somebody who goes on asking beside the others, on a kept connection and on new ones."""

    def __init__(self, server: Server, path: str = "/healthz") -> None:
        self._url = f"{server.url}{path}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.seen: list[int | str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self.seen, "the user is answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx2.Client(trust_env=False, timeout=PATIENCE_SECONDS) as kept:
            while not self._over.wait(0.02):
                for ask in (kept.get, lambda url: httpx2.get(url, trust_env=False, timeout=PATIENCE_SECONDS)):
                    try:
                        self.seen.append(ask(self._url).status_code)
                    except httpx2.TransportError as error:
                        self.seen.append(repr(error))


def wait_for_more(user: User, number: int = 10) -> None:
    before = len(user.seen)
    eventually(lambda: len(user.seen) >= before + number, "the user is answered")


SLOW = (
    b"",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ",
    post("/login", body=b"a" * 1000)[:-500],
    get(target=b"/static-offline-docs/swagger-ui-bundle.js") * 3,  # and reads nothing
)


def limited(command: Callable[[], Server], number: int) -> Server:
    """Start a server that may open so many files."""
    server = command()
    subprocess.run(["prlimit", "--pid", str(server.process.pid), f"--nofile={number}:{number}"], check=True)
    return server


def test_an_answer_that_nobody_reads_costs_no_descriptor_beside_its_connection(service: Service) -> None:
    many, before = 30, descriptors(service.server)
    with ExitStack() as stack:
        for _ in range(many):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((HOST, service.port))
            connection.sendall(SLOW[-1])
            assert connection.recv(15).startswith(b"HTTP/1.1 200")
        eventually(lambda: many <= descriptors(service.server) - before < many + 10, "no file is open")


def test_files_of_the_page_are_whole_and_asked_for_again_only_when_they_have_changed(
    service: Service,
) -> None:
    url = f"http://{HOST}:{service.port}/static-offline-docs/swagger-ui-bundle.js"
    first = httpx2.get(url, trust_env=False)
    assert len(first.content) == int(first.headers["content-length"]) > 1_000_000
    again = httpx2.get(url, trust_env=False, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = httpx2.head(url, trust_env=False)
    assert (head.headers["content-length"], head.content) == (first.headers["content-length"], b"")


@pytest.mark.parametrize("which", ["issuer", "example"])
@pytest.mark.parametrize("few", [False, True], ids=["enough descriptors", "few descriptors"])
def test_five_hundred_slow_clients_are_not_noticed_by_a_user_beside_them(
    founded: Installation, which: str, few: bool
) -> None:
    if few and shutil.which("prlimit") is None:
        pytest.skip("prlimit is not installed")
    begin = founded.serve if which == "issuer" else founded.serve_service
    server = limited(begin, FEW_DESCRIPTORS) if few else begin()
    server = server.until_ready() if which == "issuer" else server.until_alive()
    with ExitStack() as stack, User(server) as user:
        slow = []
        for number in range(MANY):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(20)
            connection.connect((HOST, server.port))
            with suppress(ConnectionError):
                connection.sendall(SLOW[number % len(SLOW)])
            slow.append(connection)
        wait_for_more(user)
        if few:
            eventually(lambda: descriptors(server) < FEW_DESCRIPTORS, "there are free descriptors")
        else:
            assert descriptors(server) > MANY / 2
        for connection in slow:
            with suppress(OSError):
                connection.send(b"a")
        wait_for_more(user)
    assert set(user.seen) == {200}


@pytest.mark.parametrize("which", ["issuer", "example"])
def test_connections_of_one_address_are_bounded_and_those_of_a_proxy_are_not(
    founded: Installation, which: str
) -> None:
    bound, many = 10, 60
    options = ["--max-connections-per-address", str(bound)]
    server = start(founded, which, *options)
    with ExitStack() as stack:
        before = descriptors(server)
        for _ in range(many):
            stack.enter_context(socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS))
        eventually(lambda: "too_many_of_address" in server.output, "there are too many")
        eventually(lambda: descriptors(server) <= before + bound, "the oldest are closed")
        assert answers(server.port)
    server.stop()
    if which == "issuer":
        founded.settings["ISSUER_TRUSTED_PROXIES"] = f"{HOST}/32"
    else:
        options += ["--proxy", HOST]
    server = start(founded, which, *options)
    with ExitStack() as stack:
        before = descriptors(server)
        for _ in range(many):
            stack.enter_context(socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS))
        eventually(lambda: descriptors(server) > before + many - bound, "all are taken")


def test_refusals_are_counted_and_logged_once_a_minute(founded: Installation) -> None:
    server = founded.serve().until_ready()
    for _ in range(20):
        exchange(server.port, get(b""))
    exchange(server.port, get(target=b"/" + b"a" * 9000))
    figures = founded.http.get(f"{founded.url}/metrics").text
    assert 'issuer_connections_refused_total{reason="malformed"} 20.0' in figures
    assert 'issuer_connections_refused_total{reason="target_too_long"} 1.0' in figures
    assert 'issuer_connections_refused_total{reason="head_timeout"} 0.0' in figures
    assert server.output.count("reason malformed") == 1


def test_the_example_counts_refusals(both: dict[str, Service]) -> None:
    port = both["example"].port
    exchange(port, get(b""))
    with closing(HTTPConnection(HOST, port, timeout=PATIENCE_SECONDS)) as connection:
        connection.request("GET", "/metrics")
        figures = connection.getresponse().read().decode()
    found = re.search(r'verifier_connections_refused_total\{reason="malformed"\} (\S+)', figures)
    assert found is not None
    assert float(found[1]) >= 1


def test_a_server_out_of_descriptors_recovers(founded: Installation) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is not installed")
    server = founded.serve().until_ready()
    wanted = descriptors(server) + 5  # fewer than the server has reckoned with
    subprocess.run(["prlimit", "--pid", str(server.process.pid), f"--nofile={wanted}:{wanted}"], check=True)
    with ExitStack() as stack:
        for _ in range(50):
            with suppress(OSError):
                stack.enter_context(socket.create_connection((HOST, server.port), timeout=PATIENCE_SECONDS))
    eventually(lambda: answers(server.port), "it answers again")
    assert server.process.poll() is None


if sys.platform != "linux":
    pytest.skip("reads /proc", allow_module_level=True)
