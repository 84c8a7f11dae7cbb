"""The bounded cost of a connection before its request is known, in real servers of the issuer and the example.

Heads, bodies, slow clients, many connections, and offers of other protocols. The limits are those of
`issuer.connections`.
"""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from support.components import require
from support.raw_http import (
    CHUNKED,
    FORM,
    LAST,
    Service,
    exchange,
    get,
    post,
    statuses,
)
from support.servers import HOST, PATIENCE_SECONDS, Installation, eventually, free_port
from websockets.sync.client import connect

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"

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
def test_an_expensive_request_is_refused_with_a_response_and_the_connection_closed(
    service: Service, case: str
) -> None:
    request, expected = COSTLY[case]
    answers = exchange(service.port, request)  # until the service closes the connection
    assert len(statuses(answers)) == 1
    assert statuses(answers)[0] in expected
    # A chunked body is known to be large only later, perhaps after the answer has been sent.
    assert b"\r\nconnection: close\r\n" in answers or CHUNKED in request


def test_a_request_at_the_size_limit_is_answered(service: Service) -> None:
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
def test_an_ambiguous_request_is_refused_and_nothing_after_it_is_read(service: Service, case: str) -> None:
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
def test_an_unusual_but_valid_request_is_answered(service: Service, request_: bytes) -> None:
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
    require("Java")
    return run(["java", str(folder / "Ask.java"), url, form])


def ask_by_curl(url: str, form: str, _folder: Path) -> list[str]:
    status = ["--output", "/dev/null", "--write-out", "%{http_code}\\n"]
    require("curl")
    return run(["curl", "--silent", "--noproxy", "*", "--http2", *status, "--data", form, url, *status, url])


def run(command: list[str]) -> list[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    ).stdout.split()


@contextmanager
def nginx(folder: Path, port: int) -> Iterator[int]:
    """Stand nginx before a port with the lines that its documentation gives for WebSocket; yield where."""
    require("nginx")
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
    initialized: Installation, tmp_path: Path, ask: Callable[[str, str, Path], list[str]]
) -> None:
    initialized.serve().until_ready()
    name, secret = initialized.machine
    form = f"grant_type=client_credentials&client_id={name}&client_secret={secret}"
    assert ask(f"{initialized.url}/oauth2/token", form, tmp_path)[0] == "200"
    with nginx(tmp_path, initialized.port) as at:
        assert ask(f"http://{HOST}:{at}/oauth2/token", form, tmp_path)[0] == "200"


def test_websockets_work_directly_and_through_nginx(installation: Installation, tmp_path: Path) -> None:
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


def test_a_pipelined_request_is_answered_in_order_even_after_a_refusal(service: Service) -> None:
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


if sys.platform != "linux":
    pytest.skip("reads /proc", allow_module_level=True)
