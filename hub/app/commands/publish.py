"""``hub publish``: events over the operators' port, one from the command line or many from stdin."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus

import attrs
import httpx
import msgspec

from hub.app.commands.operators import (
    KEY_VARIABLE,
    add_operators_arguments,
    operators_key,
    operators_url,
)
from hub.app.commands.urls import natural
from hub.sansio.payload import BadPayload, check_payload

STDIN = "-"
#: Bytes of events in one request, well below the 1 MB that the port takes by default.
BATCH_SIZE = 256 * 1024
#: What is there to read when we look is one batch, so that a slow pipe is published as it drips.
READ_SIZE = 64 * 1024
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0


class PublishFailed(Exception):
    """No answer, or not the one that was to be expected; whatever was in the request is not known to be
    published. The text is for people."""


@attrs.frozen
class Draft:
    """An event to be published, and how to speak of it to whoever wrote it."""

    item: bytes
    where: str


def add_publish_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``hub publish`` to the command line."""
    parser = commands.add_parser(
        "publish", help="publish events", allow_abbrev=False
    )  # `--key SECRET` is no `--key-file`
    parser.add_argument("channel", metavar="CHANNEL")
    parser.add_argument("data", metavar="JSON", help="the event's payload; -: one a line from stdin")
    add_operators_arguments(parser)
    parser.add_argument("--user", metavar="ID", help="whose the event is, on a private channel")
    parser.add_argument("--event", metavar="NAME", help="event name in the live envelope")
    parser.add_argument(
        "--type", choices=("snapshot", "delta"), help="whether the payload is a whole state or a change of it"
    )
    parser.add_argument(
        "--last-update-id", metavar="N", type=natural, help="the matching engine's number of the update"
    )
    parser.set_defaults(run=publish_event)


def publish_event(options: argparse.Namespace) -> int:
    """Publishes; prints a line of JSON with seq and epoch for each event. The exit status is 1 where any was
    refused."""
    key = operators_key(options)
    with httpx.Client(
        trust_env=False,
        timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        headers={} if key is None else {"authorization": f"ApiKey {key}"},
    ) as client:
        publisher = _Publisher(client, f"{operators_url(options)}/publish", _head(options))
        try:
            for lines in _read_stdin() if options.data == STDIN else [[(os.fsencode(options.data), "")]]:
                publisher.publish(lines)
        except PublishFailed as failure:
            _complain(str(failure))
            return 1
    return 1 if publisher.has_refused else 0


def _head(options: argparse.Namespace) -> bytes:
    """What all events of one command have besides their payload: JSON without its closing brace."""
    fields = {
        "channel": _text(options.channel),
        "user": _text(options.user),
        "event": _text(options.event),
        "type": options.type,
        "lastUpdateId": options.last_update_id,
    }
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})[:-1]


class _Publisher:
    def __init__(self, client: httpx.Client, url: str, head: bytes) -> None:
        self.has_refused = False
        self._head = head
        self._client = client
        self._url = url

    def publish(self, lines: Sequence[tuple[bytes, str]]) -> None:
        """Publishes what is JSON of ``lines``, each with the words that tell where it stood."""
        drafts = []
        for data, where in lines:
            try:
                drafts.append(Draft(self._make_item(data), where))
            except BadPayload as error:
                self._refuse(where, str(error))
        for batch in _split(drafts):
            self._post(batch)

    def _make_item(self, data: bytes) -> bytes:
        """A line of NDJSON, with the payload as it was written. Raises BadPayload."""
        return b'%b,"data":%b}' % (self._head, check_payload(data))

    def _post(self, batch: Sequence[Draft]) -> None:
        body = b"\n".join(draft.item for draft in batch)
        try:
            response = self._client.post(
                self._url, content=body, headers={"content-type": "application/x-ndjson"}
            )
        except httpx.ConnectError as error:
            raise PublishFailed(f"no hub at {self._url}: {error}") from None
        except httpx.HTTPError as error:
            raise PublishFailed(f"no answer from {self._url}: {str(error) or type(error).__name__}") from None
        for draft, result in zip(batch, _read_results(response, len(batch)), strict=True):
            if result.seq is None:
                self._refuse(draft.where, f"{result.msg} ({result.code})")
            else:
                print(msgspec.json.encode({"seq": result.seq, "epoch": result.epoch}).decode(), flush=True)

    def _refuse(self, where: str, why: str) -> None:
        self.has_refused = True
        _complain(f"{where}{why}")


class _Result(msgspec.Struct):
    seq: int | None = None
    epoch: str = ""
    code: int = 0
    msg: str = ""


class _Answer(msgspec.Struct):
    results: list[_Result]


def _read_results(response: httpx.Response, count: int) -> list[_Result]:
    try:
        if response.status_code != HTTPStatus.OK:
            refusal = msgspec.json.decode(response.content, type=_Result)
            raise PublishFailed(f"{response.url}: {refusal.msg} ({refusal.code}){_advice(response)}")
        results = msgspec.json.decode(response.content, type=_Answer).results
    except (msgspec.MsgspecError, UnicodeDecodeError):
        results = []
    if len(results) != count:
        raise PublishFailed(f"{response.url} is no operators' port: answered HTTP {response.status_code}")
    return results


def _advice(response: httpx.Response) -> str:
    if response.status_code != HTTPStatus.UNAUTHORIZED:
        return ""
    if "authorization" in response.request.headers:
        return "; the key that was given is another"
    return f"; it is read from {KEY_VARIABLE}, or from a file with --key-file"


def _text(argument: str | None) -> str | None:
    """An argument that was not UTF-8 as text that JSON can hold; the hub will refuse it."""
    return None if argument is None else os.fsencode(argument).decode("utf-8", "replace")


def _split(drafts: Sequence[Draft]) -> Iterator[Sequence[Draft]]:
    begin = size = 0
    for index, draft in enumerate(drafts):
        size += len(draft.item) + 1
        if size > BATCH_SIZE and index > begin:
            yield drafts[begin:index]
            begin, size = index, len(draft.item) + 1
    if drafts:
        yield drafts[begin:]


def _read_stdin() -> Iterator[list[tuple[bytes, str]]]:
    """Lines of stdin that are not blank, with their numbers; as many at a time as are there to be read."""
    rest, number = b"", 0
    while chunk := os.read(sys.stdin.fileno(), READ_SIZE):
        *lines, rest = (rest + chunk).split(b"\n")
        yield [(line, f"line {number + at}: ") for at, line in enumerate(lines, 1) if line.strip()]
        number += len(lines)
    if rest.strip():
        yield [(rest, f"line {number + 1}: ")]


def _complain(text: str) -> None:
    print(f"hub publish: {text}", file=sys.stderr, flush=True)
