"""Logs: one line an event on stdout, JSON for machines or text for a terminal (operations.md, "Logs").

Modules log with the standard library; what they pass as ``extra`` become fields of the line. Lines are written
by a thread of their own, because stdout may be a pipe whose reader is slow, stuck or gone, and none of these
may hold up the hub or make it fail.
"""

from __future__ import annotations

import atexit
import datetime
import logging
import math
import os
import select
import threading
from collections import deque
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

from hub.app.settings.redaction import MASK, names_secret, redact
from hub.app.settings.sections import LogSettings

#: Lines that wait for a slow reader of stdout; what comes beyond is dropped and counted. At 300 bytes a line
#: this is 3 MB, or ten seconds of a thousand connects a second.
LINES_HELD: Final = 10_000
#: Seconds that the end of the process waits for the last lines to be read.
FLUSH_DEADLINE: Final = 1.0
#: Fields come in this order, then the event's own.
_FIRST = ("ts", "level", "event", "logger")
#: Libraries that say more than our logs need, and how much of it we want.
_LIBRARIES = {
    "hypercorn.access": logging.CRITICAL + 1,
    "hypercorn.error": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
}

Fields = MutableMapping[str, Any]


def configure(settings: LogSettings, *, fd: int = 1) -> LineWriter:
    """Sends all logs of the process to file descriptor ``fd`` (stdout). May be called again: the last call wins.

    The writer that it returns need not be kept: at exit it is flushed. Call it after a fork, not before: a
    thread does not survive one. Raises OSError if ``fd`` is not open.
    """
    writer = LineWriter(fd)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LineHandler)]:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(LineHandler(writer, make_formatter(settings.format, colors=os.isatty(fd))))
    root.setLevel(settings.level.upper())
    logging.getLogger("hub.lifecycle").setLevel(logging.INFO)  # others wait for these lines
    for name, level in _LIBRARIES.items():
        logging.getLogger(name).setLevel(max(level, root.level))
    logging.captureWarnings(True)
    return writer


def make_formatter(style: str, *, colors: bool = False) -> logging.Formatter:
    """A formatter of standard records to one line of JSON (style "json"), or to text for a terminal."""
    # Strings are quoted: a peer's line breaks and control characters do not reach the terminal.
    render: Any = structlog.dev.ConsoleRenderer(timestamp_key="ts", colors=colors, repr_native_str=True)
    if style == "json":
        render = structlog.processors.JSONRenderer(ensure_ascii=False, separators=(",", ":"))
    return ProcessorFormatter(
        foreign_pre_chain=[
            ExtraAdder(),
            add_log_level,
            add_logger_name,
            structlog.processors.format_exc_info,
        ],
        processors=[
            _add_time,
            ProcessorFormatter.remove_processors_meta,
            _drop_formatters_marks,
            _make_plain,
            _put_in_order,
            render,
        ],
    )


def _add_time(_logger: Any, _method: str, fields: Fields) -> Fields:
    created = datetime.datetime.fromtimestamp(fields["_record"].created, datetime.UTC)
    fields["ts"] = created.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return fields


def _drop_formatters_marks(_logger: Any, _method: str, fields: Fields) -> Fields:
    # Another handler's formatter leaves these on the record, where they look like extra fields.
    for name in ("message", "asctime"):
        fields.pop(name, None)
    return fields


def _make_plain(_logger: Any, _method: str, fields: Fields) -> Fields:
    return {str(name): MASK if names_secret(str(name)) else _plain(value) for name, value in fields.items()}


def _put_in_order(_logger: Any, _method: str, fields: Fields) -> Fields:
    return {**{name: fields[name] for name in _FIRST if name in fields}, **fields}


def _plain(value: Any) -> Any:
    """What JSON can say, without secrets."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return _make_plain(None, "", dict(value))
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [_plain(item) for item in value]
    return redact(value if isinstance(value, str) else repr(value))


class LineHandler(logging.Handler):
    """Formats records and gives the lines to a writer. Never raises, whatever was logged."""

    def __init__(self, writer: LineWriter, formatter: logging.Formatter) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        if lost := self._writer.take_lost():
            self._writer.write(self._format(_make_record("log lines dropped", {"dropped": lost})))
        self._writer.write(self._format(record))

    def _format(self, record: logging.LogRecord) -> bytes:
        try:
            line = self.format(record)
        except Exception:  # an argument whose repr fails, a message that does not fit its arguments
            line = self.format(_make_record("a record could not be formatted", {"source": record.name}))
        return line.encode("utf-8", "backslashreplace") + b"\n"

    def close(self) -> None:
        self._writer.close()
        super().close()


def _make_record(event: str, fields: Mapping[str, Any]) -> logging.LogRecord:
    return logging.getLogger(__name__).makeRecord(
        __name__, logging.WARNING, __file__, 0, event, (), None, extra=dict(fields)
    )


class LineWriter:
    """Writes lines to a file descriptor from a thread. `write` never waits and never raises."""

    def __init__(self, fd: int, *, lines_held: int = LINES_HELD) -> None:
        self._fd = os.dup(fd)
        self._lines: deque[bytes] = deque()
        self._lines_held = lines_held
        self._lost = 0
        self._closing = False
        #: Guards all of the above; the writing itself happens outside.
        self._changed = threading.Condition()
        # A daemon, so that a reader which is stuck cannot keep the process alive.
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, line: bytes) -> None:
        """Takes a line, or counts it as lost when too many wait already. Once one is lost all are, until
        `take_lost` has made it known: so the reader learns of a hole where it is."""
        with self._changed:
            if len(self._lines) < self._lines_held and not self._lost and not self._closing:
                self._lines.append(line)
                self._changed.notify()
            else:
                self._lost += 1

    def take_lost(self) -> int:
        """How many lines were dropped since this was last asked, once there is room to tell of it; else 0."""
        with self._changed:
            if len(self._lines) + 2 > self._lines_held or self._closing:  # the notice, and a line after it
                return 0
            lost, self._lost = self._lost, 0
            return lost

    def close(self) -> None:
        """Writes what waits, for as long as `FLUSH_DEADLINE` allows, and ends."""
        atexit.unregister(self.close)
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(FLUSH_DEADLINE)

    def _run(self) -> None:
        try:
            while lines := self._wait_for_lines():
                _write_all(self._fd, b"".join(lines))
        except OSError:  # nobody reads any more
            with self._changed:
                self._closing = True
                self._lines.clear()
        finally:
            os.close(self._fd)

    def _wait_for_lines(self) -> list[bytes]:
        """All lines that wait, as soon as there are any; none once the writer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closing)
            lines = list(self._lines)
            self._lines.clear()
            return lines


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # whoever shares our stdout has made it non-blocking
            select.select([], [fd], [])
