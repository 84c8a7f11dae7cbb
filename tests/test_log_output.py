"""Writing the log neither fails nor blocks, whatever standard error is, and lines stay whole.

A whole issuer is tested in `servers/test_unwritable`.
"""

import io
import json
import logging
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

import pytest
import structlog
from support.servers import eventually

from issuer.log_output import LogOutput
from issuer.logs import configure_log, dropped_lines
from issuer.standard_streams import OutputStream, UnfailingStream


@contextmanager
def a_pipe() -> Iterator[tuple[BinaryIO, int]]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as read:
        yield read, writer


@contextmanager
def a_socket() -> Iterator[tuple[BinaryIO, int]]:
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("rb", buffering=0) as read:
        yield read, theirs.detach()  # type: ignore[misc]


@contextmanager
def a_terminal() -> Iterator[tuple[BinaryIO, int]]:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as read:
        yield read, theirs


PLACES = pytest.mark.parametrize("place", [a_pipe, a_socket, a_terminal])


def text(descriptor: int) -> TextIO:
    return os.fdopen(descriptor, "w", encoding="utf-8")


def read_all(reader: BinaryIO, until: bytes) -> bytes:
    data = b""
    while until not in data.replace(b"\r\n", b"\n"):
        data += reader.read(65536)
    return data.replace(b"\r\n", b"\n")


@PLACES
def test_lines_wait_for_a_stopped_reader_and_arrive_complete_and_in_order(
    place: Callable[[], AbstractContextManager[tuple[BinaryIO, int]]],
) -> None:
    with place() as (reader, writer), text(writer) as stream:
        output = LogOutput(stream)
        lines = [f"{number:06} {'x' * (number % 300)}\n" for number in range(5000)]
        for line in lines:
            output.write(line)  # would wait for ever, if it did
        output.write("the end\n")
        read = read_all(reader, b"the end\n").decode().splitlines(keepends=True)
        assert read == [*lines, "the end\n"]
        assert output.dropped == 0


@PLACES
def test_lines_for_a_stopped_reader_are_bounded_and_dropped_ones_counted(
    place: Callable[[], AbstractContextManager[tuple[BinaryIO, int]]],
) -> None:
    with place() as (reader, writer), text(writer) as stream:
        output = LogOutput(stream, most_bytes=100_000)
        line = "x" * 99 + "\n"
        for _ in range(20_000):
            output.write(line)
        assert output.dropped > 5000
        assert output.is_failing
        lost = output.dropped
        threading.Thread(target=output.flush).start()
        read = b""
        while read.count(b"\n") < 20_000 - lost:
            read += reader.read(65536)
        output.write("the end\n")
        assert read_all(reader, b"the end\n") == b"the end\n"
        assert set(read.replace(b"\r\n", b"\n").decode().splitlines(keepends=True)) == {line}
        assert not output.is_failing


def test_a_pipe_that_may_only_be_written_with_waiting_is_written_by_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")  # or a pipe that another account made
    with a_pipe() as (reader, writer), text(writer) as stream:
        output = LogOutput(stream)
        lines = [f"{number:06} {'x' * 200}\n" for number in range(2000)]
        for line in lines:
            output.write(line)
        output.write("the end\n")
        assert read_all(reader, b"the end\n").decode().splitlines(keepends=True) == [*lines, "the end\n"]
        output.flush()
        reader.close()
        output.write("lost\n")
        eventually(lambda: output.dropped == 1, "the loss is noticed")


def test_the_file_that_others_share_does_not_become_non_blocking() -> None:
    with a_pipe() as (reader, writer), text(writer) as stream:
        LogOutput(stream).write("a line\n")
        assert os.get_blocking(writer)
        assert reader.read(100) == b"a line\n"


def test_a_reader_that_has_gone_costs_lines_and_nothing_else() -> None:
    with a_pipe() as (reader, writer), text(writer) as stream:
        output = LogOutput(stream)
        output.write("a line\n")
        reader.close()
        for _ in range(3):
            output.write("lost\n")
        assert output.dropped == 3
        assert output.is_failing


@pytest.mark.parametrize("where", ["none", "full", "closed", "gone", "raising"])
def test_a_stream_that_cannot_be_written_costs_lines_and_nothing_else(where: str, tmp_path: Path) -> None:
    class Raising(io.StringIO):
        def write(self, _text: str) -> int:
            raise RuntimeError("anything")

    with Path("/dev/full" if where == "full" else tmp_path / "log").open("w", encoding="utf-8") as file:
        if where == "closed":
            file.close()
        gone = os.fdopen(os.dup(0), "w", closefd=False)
        os.close(gone.fileno())
        stream = {"none": None, "raising": Raising(), "gone": gone}.get(where, file)
        with closing(LogOutput(stream)) as output:
            for _ in range(3):
                output.write("a line \udc80\n")
            output.flush()
            assert output.dropped == 3


def test_a_stream_that_is_closed_later_is_written_on_and_no_other_file_in_its_place(tmp_path: Path) -> None:
    stream = (tmp_path / "log").open("w", encoding="utf-8")
    output = LogOutput(stream)
    number = stream.fileno()
    stream.close()
    with (tmp_path / "database").open("wb") as other:
        assert other.fileno() == number
        output.write("a line\n")
    assert (tmp_path / "database").read_bytes() == b""
    assert (tmp_path / "log").read_text() == "a line\n"
    output.close()


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="latin-1") as stream:
        LogOutput(stream).write("é € \ud800\n")
    assert (tmp_path / "log").read_bytes() == b"\xe9 \\u20ac \\ud800\n"


def test_a_line_that_a_full_disk_broke_off_is_not_continued_by_the_next(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as stream:
        output = LogOutput(stream)
        assert output._channel
        real = output._channel.send
        sends: Iterator[int | OSError] = iter([3, OSError(28, "no space"), OSError(28, "no space")])

        def send(data: bytes) -> int:
            match next(sends, None):
                case OSError() as error:
                    raise error
                case count:
                    return real(data[:count])

        object.__setattr__(output._channel, "send", send)
        for line in ("first\n", "second\n", "third\n", "fourth\n"):
            output.write(line)
    assert (tmp_path / "log").read_text() == "fir\nthird\nfourth\n"
    assert output.dropped == 2


def test_a_line_logged_by_a_signal_handler_while_another_is_written_comes_after_it(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as stream:
        output = LogOutput(stream)
        assert output._channel
        real = output._channel.send

        def send(data: bytes) -> int:
            if data == b"a line\n":
                count = real(data[:3])
                signal.raise_signal(signal.SIGUSR2)
                return count
            return real(data)

        object.__setattr__(output._channel, "send", send)
        before = signal.signal(signal.SIGUSR2, lambda *_: output.write("of the handler\n"))
        try:
            output.write("a line\n")
        finally:
            signal.signal(signal.SIGUSR2, before)
    assert (tmp_path / "log").read_text() == "a line\nof the handler\n"


ENDING = """
import sys
from issuer.logs import configure_log
import structlog
configure_log()
log = structlog.get_logger()
for number in range(3000):
    log.info("a line", number=number)
"""


@pytest.mark.processes
def test_the_end_of_a_process_waits_for_a_slow_reader_and_loses_no_line() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDING], stderr=subprocess.PIPE) as process:
        assert process.stderr
        lines = process.stderr.read().splitlines()
        assert [json.loads(line)["number"] for line in lines] == list(range(3000))
        assert process.wait(120) == 0


@pytest.mark.processes
def test_the_end_of_a_process_does_not_wait_for_a_reader_that_has_stopped() -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", ENDING], stderr=writer)
    os.close(writer)
    assert process.wait(120) == 0
    os.close(reader)


# What logs


class Nasty:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


@pytest.fixture
def logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], list[dict[str, object]]]]:
    with (tmp_path / "log").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        configure_log()
        yield lambda: [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], level=logging.WARNING, force=True)
    logging.raiseExceptions = True


def test_a_value_that_cannot_be_shown_costs_its_line(logged: Callable[[], list[dict[str, object]]]) -> None:
    structlog.get_logger().info("a line", value=Nasty())
    structlog.get_logger().bind(value=Nasty()).warning("a line")
    logging.getLogger("a library").error("a line %s", Nasty())
    logging.getLogger("a library").error(*("two values %s %s", 1))
    structlog.get_logger().info("the next")
    *instead, following = logged()
    assert [line["event"] for line in instead] == ["log line could not be rendered"] * 4
    assert following["event"] == "the next"
    assert dropped_lines() == 0


def test_an_exception_that_cannot_be_shown_is_no_failure(
    logged: Callable[[], list[dict[str, object]]],
) -> None:
    class Unspeakable(Exception):
        __str__ = Nasty.__repr__

    structlog.get_logger().error("a line", exc_info=Unspeakable())
    logging.getLogger("a library").error("a line", exc_info=Unspeakable())
    assert len(logged()) == 2


@pytest.mark.parametrize("stream", [None, "full", "closed"])
def test_standard_error_of_commands_accepts_any_text(stream: str | None, tmp_path: Path) -> None:
    # A buffer of none, as of standard error: what cannot be written is not tried again when it is closed.
    raw = Path("/dev/full" if stream == "full" else tmp_path / "file").open("wb", buffering=0)  # noqa: SIM115
    with raw:
        below = io.TextIOWrapper(raw, write_through=True) if stream else None  # type: ignore[type-var]
        if stream == "closed":
            raw.close()
        unfailing = UnfailingStream(below)
        assert unfailing.write("a line\n") == 7
        print("a line", file=unfailing, flush=True)
        assert not unfailing.isatty()


def test_prints_of_a_server_go_through_its_log(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as stream, closing(LogOutput(stream)) as output:
        printed = OutputStream(stream, output)
        print("one", 2, file=printed)
        printed.write("half ")
        printed.write("a line\nand the next")
    assert (tmp_path / "log").read_text() == "one 2\nhalf a line\n"
