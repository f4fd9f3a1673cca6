"""Lines as they arrive at the other end of a pipe."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from hub.app.logs import LineHandler, LineWriter, configure, make_formatter
from hub.app.settings import LogSettings

logger = logging.getLogger("hub.core.example")


@attrs.frozen
class Pipe:
    """Stands for stdout."""

    read_end: int
    write_end: int

    def read(self) -> bytes:
        """All there is, once our own write end is the last that was open."""
        os.close(self.write_end)
        with open(self.read_end, "rb", closefd=False) as file:
            return file.read()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe(*os.pipe())
    yield made
    for fd in (made.read_end, made.write_end):
        try:
            os.close(fd)
        except OSError:  # the test has closed it
            pass


@pytest.fixture
def logged(pipe: Pipe) -> Iterator[Callable[..., str]]:
    """Runs a function while the logs of the process are configured; gives what came out."""
    root, libraries = (
        logging.getLogger(),
        ["hypercorn.access", "hypercorn.error", "httpcore", "httpx"],
    )
    levels = {name: logging.getLogger(name).level for name in libraries}
    root_level = root.level

    def run(work: Callable[[], object], settings: LogSettings | None = None) -> str:
        writer = configure(settings or LogSettings(), fd=pipe.write_end)
        work()
        writer.close()
        return pipe.read().decode()

    yield run
    for handler in [handler for handler in root.handlers if isinstance(handler, LineHandler)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(root_level)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


def only_line(text: str) -> dict[str, Any]:
    line, rest = text.split("\n", 1)
    assert rest == ""
    fields: dict[str, Any] = json.loads(line)
    return fields


# --- lines -----------------------------------------------------------------------------------------------


def test_a_record_is_one_line_of_json_with_the_fields_of_operations_md(logged: Callable[..., str]) -> None:
    record_time = 1740000000.1234
    extra = {"connId": "c_n1_1_a", "userId": 42, "channels": ("a", "b"), "lag": {("t", 1): 2.5}}

    def work() -> None:
        record = logger.makeRecord(
            logger.name, logging.WARNING, "f.py", 1, "slow %s", ("consumer",), None, extra=extra
        )
        record.created = record_time
        logger.handle(record)

    text = logged(work)
    assert text == (
        '{"ts":"2025-02-19T21:20:00.123Z","level":"warning","event":"slow consumer","logger":"hub.core.example",'
        '"connId":"c_n1_1_a","userId":42,"channels":["a","b"],"lag":{"(\'t\', 1)":2.5}}\n'
    )


def test_a_message_with_line_breaks_stays_on_one_line(logged: Callable[..., str]) -> None:
    assert only_line(logged(lambda: logger.info("a\nb\u2028c")))["event"] == "a\nb\u2028c"


def test_an_exception_is_one_field(logged: Callable[..., str]) -> None:
    def work() -> None:
        try:
            raise ExceptionGroup("several", [ValueError("token=hunter2"), OSError(5, "five")])
        except ExceptionGroup:
            logger.exception("source failed", extra={"source": "kafka"})

    fields = only_line(logged(work))
    assert (fields["level"], fields["event"], fields["source"]) == ("error", "source failed", "kafka")
    assert "ExceptionGroup: several" in fields["exception"] and "ValueError: token=***" in fields["exception"]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def _cycle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    "message, args, extra",
    [
        ("%d", ("not a number",), {}),
        ("%s %s", ("one",), {}),
        ("x", (), {"field": Unprintable()}),
        ("x", (), {"field": _cycle()}),
    ],
)
def test_a_record_that_cannot_be_formatted_says_where_it_came_from(
    message: str, args: tuple[str, ...], extra: dict[str, Any], pipe: Pipe
) -> None:
    writer = LineWriter(pipe.write_end)
    handler = LineHandler(
        writer, make_formatter("json")
    )  # not by the logger: pytest listens there, and raises
    handler.emit(logger.makeRecord(logger.name, logging.INFO, "f.py", 1, message, args, None, extra=extra))
    writer.close()
    fields = only_line(pipe.read().decode())
    assert (fields["event"], fields["source"]) == ("a record could not be formatted", "hub.core.example")


@pytest.mark.parametrize(
    "value, shown",
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (10**30, 10**30),
        (b"\xff", "b'\\xff'"),
        ("\udc80", "\udc80"),
        ("ü", "ü"),
        (None, None),
        (True, True),
        (frozenset({1}), [1]),
        (OSError("x"), "OSError('x')"),
    ],
)
def test_any_value_can_be_a_field(value: object, shown: object, logged: Callable[..., str]) -> None:
    assert only_line(logged(lambda: logger.info("x", extra={"field": value})))["field"] == shown


def test_secrets_are_masked_wherever_they_stand(logged: Callable[..., str]) -> None:
    def work() -> None:
        logger.info(
            "GET /v2?token=hunter2 %s",
            "Bearer hunter2",
            extra={
                "password": "hunter2",
                "url": "redis://u:hunter2@h",
                "headers": [("authorization", "ApiKey hunter2")],
                "body": {"accessToken": "hunter2", "list": ["token=hunter2"]},
                "raw": b"token=hunter2",
            },
        )

    text = logged(work)
    assert "hunter2" not in text and only_line(text)["password"] == "***"


def test_text_for_terminals_has_no_colors_in_a_pipe_and_no_control_characters(
    logged: Callable[..., str],
) -> None:
    def work() -> None:
        logger.info("ready", extra={"public": "http://a", "agent": "evil\x1b[2J\nline"})
        try:
            raise ValueError("token=hunter2")
        except ValueError:
            logger.exception("failed")

    text = logged(work, LogSettings(format="text"))
    first, second, *trace = text.splitlines()
    assert "ready" in first and "public='http://a'" in first and "hub.core.example" in first
    assert "\x1b" not in text and "failed" in second
    assert trace[0].startswith("Traceback") and trace[-1] == "ValueError: token=***"


def test_text_on_a_terminal_has_colors() -> None:
    record = logger.makeRecord("x", logging.INFO, "f.py", 1, "ready", (), None)
    assert "\x1b[" in make_formatter("text", colors=True).format(record)


# --- what is logged --------------------------------------------------------------------------------------


def test_levels(logged: Callable[..., str]) -> None:
    def work() -> None:
        logger.debug("no")
        logger.info("no")
        logger.warning("yes")
        logging.getLogger("httpx").info("no")

    assert only_line(logged(work, LogSettings(level="warning")))["event"] == "yes"


def test_libraries_are_kept_down_and_warnings_are_caught(logged: Callable[..., str]) -> None:
    def work() -> None:
        logging.getLogger("hypercorn.access").error("GET /?token=hunter2")
        logging.getLogger("httpcore").debug("frame")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", UserWarning, stacklevel=1)

    fields = only_line(logged(work, LogSettings(level="debug")))
    assert fields["logger"] == "py.warnings" and "UserWarning: old" in fields["event"]


def test_configuring_again_replaces_the_first(logged: Callable[..., str], pipe: Pipe) -> None:
    configure(LogSettings(), fd=pipe.write_end)
    assert only_line(logged(lambda: logger.info("once")))["event"] == "once"


# --- a reader that is slow, stuck or gone ----------------------------------------------------------------


def _handle(writer: LineWriter, event: str) -> None:
    LineHandler(writer, make_formatter("json")).emit(
        logger.makeRecord("x", logging.INFO, "f.py", 1, event, (), None)
    )


def _fill(pipe: Pipe) -> int:
    """Fills the pipe so that a write to it blocks; gives how many bytes that took."""
    os.set_blocking(pipe.write_end, False)
    filled = 0
    try:
        while True:
            filled += os.write(pipe.write_end, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(pipe.write_end, True)
        return filled


def test_a_reader_that_is_gone_is_no_error(pipe: Pipe) -> None:
    writer = LineWriter(pipe.write_end)
    os.close(pipe.read_end)
    for _ in range(3):
        _handle(writer, "x")
    writer.close()
    _handle(writer, "after the end")
    writer.close()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_is_stuck_holds_nobody_up_and_learns_what_was_dropped(
    blocking: bool, pipe: Pipe
) -> None:
    filled = _fill(pipe)
    os.set_blocking(pipe.write_end, blocking)
    writer = LineWriter(pipe.write_end, lines_held=10)
    numbers = itertools.count()
    for number in itertools.islice(numbers, 100):
        _handle(writer, str(number))  # would hang here, were it not for the thread

    received = b""
    while b"dropped" not in received:
        received += os.read(pipe.read_end, 65536)
        _handle(writer, str(next(numbers)))
    writer.close()
    received += pipe.read()

    expected = 0
    for event in map(json.loads, received[filled:].splitlines()):
        if event["event"] == "log lines dropped":
            expected += event["dropped"]
        else:
            assert event["event"] == str(expected)
            expected += 1


def test_the_end_of_the_process_waits_for_the_last_lines() -> None:
    code = (
        "import logging, hub.app.logs as logs, hub.app.settings as settings;"
        "logs.configure(settings.LogSettings());"
        "[logging.getLogger('x').info('line', extra={'n': n}) for n in range(5000)]"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert [json.loads(line)["n"] for line in result.stdout.splitlines()] == list(range(5000))
    assert result.stderr == b""


def test_a_reader_that_is_gone_does_not_fail_the_process() -> None:
    code = (
        "import logging, sys, hub.app.logs as logs, hub.app.settings as settings;"
        "logs.configure(settings.LogSettings());"
        "sys.stdin.read();"
        "[logging.getLogger('x').info('line') for n in range(1000)]"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdout.close()
    process.stdin.close()
    assert process.wait() == 0
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
