"""What a follower must take, and what it must not: the same cases for the Python and the JavaScript one."""

from __future__ import annotations

from typing import Any

import attrs

BOOK, TICKER, TRADES = "orderbook@a_b", "ticker@a_b", "trades@a_b"
FILLS, PART, ORDERS = "fills", "fills@a_b", "orders"
Step = dict[str, Any]


@attrs.frozen
class Case:
    name: str
    steps: list[Step]
    failures: int = 0
    #: The answers to the steps that ask.
    asked: list[Any] = attrs.field(factory=list)


def answer(channel: str, seq: int, epoch: str = "e", **fields: Any) -> Step:
    return {"positions": {channel: {"seq": seq, "firstSeq": 1, "epoch": epoch, **fields}}}


def event(channel: str, seq: int, data: Any = None, **fields: Any) -> Step:
    return {"ch": channel, "ts": 1, "seq": seq, "data": data, **fields}


def snapshot(channel: str, seq: int, data: Any = None, epoch: str = "e") -> Step:
    return event(channel, seq, data, type="snapshot", snapshotSeq=seq, epoch=epoch)


def live_snapshot(channel: str, seq: int, data: Any = None) -> Step:
    return {"v": 1, "event": "snapshot", "channel": channel, "seq": seq, "ts": 1, "ok": True, "data": data}


def drop(channel: str, from_seq: int, to_seq: int, dropped: int | None = None) -> Step:
    count = to_seq - from_seq + 1 if dropped is None else dropped
    data = {"fromSeq": from_seq, "toSeq": to_seq, "dropped": count}
    return {"event": "backpressure_drop", "ch": channel, "ts": 1, "data": data}


def gap(channel: str, reason: str, from_seq: int, to_seq: int | None, epoch: str = "e") -> Step:
    data = {"reason": reason, "fromSeq": from_seq, "toSeq": to_seq, "epoch": epoch}
    return {"event": "gap", "ch": channel, "ts": 1, "data": data}


def state_at(channel: str, seq: int) -> Step:
    return {"at": channel, "seq": seq}


LAST_SEQ: Step = {"lastSeq": True}
ANY_BOOK = {"bids": [["10", "1"], ["9", "2"]], "asks": [["11", "1"]]}
BETTER_BID = {"bids": [["10", "0.00"], ["9.5", "3"]], "asks": []}
BOOK_THEN = {"bids": [["9", "2"], ["9.5", "3"]], "asks": [["11", "1"]]}
TRADE = {"tradeId": 1}
FIRST = {"market": "a_b", "tradeId": 1, "orderId": 7}
SECOND, THIRD, LAST = {**FIRST, "tradeId": 2}, {**FIRST, "tradeId": 3}, {**FIRST, "orderId": 8}
OPEN = {"orderId": "1", "status": "new"}
FILLED = {"orderId": "1", "status": "filled"}


def _book(*steps: Step) -> list[Step]:
    return [answer(BOOK, 5), snapshot(BOOK, 5, ANY_BOOK), *steps]


CASES = [
    Case("one after the other", _book(event(BOOK, 6, BETTER_BID), event(BOOK, 7, BETTER_BID))),
    Case("a jump", _book(event(BOOK, 7, BETTER_BID)), 1),
    Case("a duplicate", _book(event(BOOK, 6, BETTER_BID), event(BOOK, 6, BETTER_BID)), 1),
    Case("the snapshot's own event again", _book(event(BOOK, 5, BETTER_BID)), 1),
    Case("a refusal", [{**answer(BOOK, 5), "errors": [{"code": 40002}]}], 1),
    Case("an event of nobody's", _book(event(TICKER, 1)), 1),
    Case("a book without its state", [answer(BOOK, 5), event(BOOK, 6, BETTER_BID)], 1),
    Case("a state later than the answer", [answer(TICKER, 5), snapshot(TICKER, 9), event(TICKER, 10)]),
    Case("a state before the answer", [answer(TICKER, 5), snapshot(TICKER, 4)], 1),
    Case("a state that nobody asked for", _book(event(BOOK, 6, BETTER_BID), snapshot(BOOK, 9, ANY_BOOK)), 1),
    Case("a state that was published", _book(snapshot(BOOK, 6, ANY_BOOK), event(BOOK, 7, BETTER_BID))),
    Case("an odd snapshotSeq", [answer(BOOK, 5), {**snapshot(BOOK, 5, ANY_BOOK), "snapshotSeq": 4}], 1),
    Case("no state yet", [answer(TICKER, 0), event(TICKER, 1, "x"), state_at(TICKER, 1)], asked=["x"]),
    Case("a resume", _book(answer(BOOK, 8), *(event(BOOK, seq, BETTER_BID) for seq in (6, 7, 8, 9)))),
    Case("a resume that leaves one out", _book(answer(BOOK, 8), event(BOOK, 7, BETTER_BID)), 1),
    Case("a resume in another epoch, untold", _book(answer(BOOK, 8, "f")), 1),
    Case("a resume that snapshots instead, untold", _book(answer(BOOK, 8), snapshot(BOOK, 8, ANY_BOOK)), 1),
    Case("a drop that heals", _book(drop(BOOK, 6, 9), snapshot(BOOK, 9, ANY_BOOK), event(BOOK, 10, BETTER_BID))),
    Case("a drop that heals elsewhere", _book(drop(BOOK, 6, 9), snapshot(BOOK, 11, ANY_BOOK)), 1),
    Case("a drop without a state", _book(drop(BOOK, 6, 9), event(BOOK, 10, BETTER_BID)), 1),
    Case("a drop that begins late", _book(drop(BOOK, 7, 9)), 1),
    Case("a drop that counts wrong", _book(drop(BOOK, 6, 9, 3)), 1),
    Case("a drop, then a jump", [answer(TICKER, 5), snapshot(TICKER, 5), drop(TICKER, 6, 9), event(TICKER, 11)], 1),
    Case("a dropped fill", [answer(FILLS, 5), drop(FILLS, 6, 9)], 1),
    Case("fills go on", [answer(FILLS, 5), LAST_SEQ, event(FILLS, 6, FIRST), LAST_SEQ],
         asked=[{FILLS: {"seq": 5, "epoch": "e"}}, {FILLS: {"seq": 6, "epoch": "e"}}]),
    Case("nothing to resume without a state", [answer(BOOK, 5), LAST_SEQ, answer(BOOK, 9),
         snapshot(BOOK, 9, ANY_BOOK), LAST_SEQ], asked=[{}, {BOOK: {"seq": 9, "epoch": "e"}}]),
    Case("nothing to resume after a drop", _book(drop(BOOK, 6, 9), LAST_SEQ), asked=[{}]),
    Case("evicted", _book(answer(BOOK, 99, recovered=False), gap(BOOK, "evicted", 6, 99),
         snapshot(BOOK, 99, ANY_BOOK), event(BOOK, 100, BETTER_BID))),
    Case("evicted, but not told", _book(answer(BOOK, 99, recovered=False), snapshot(BOOK, 99, ANY_BOOK)), 1),
    Case("evicted, told wrong", _book(answer(BOOK, 99, recovered=False), gap(BOOK, "evicted", 7, 99)), 1),
    Case("evicted, and an open end", _book(answer(BOOK, 99, recovered=False), gap(BOOK, "evicted", 6, None)), 1),
    Case("evicted fills", [answer(FILLS, 5), answer(FILLS, 99, recovered=False), gap(FILLS, "evicted", 6, 50),
         event(FILLS, 51, FIRST), event(FILLS, 52, SECOND)]),
    Case("a fill by its part", [answer(FILLS, 5), answer(PART, 2), event(FILLS, 6, {"channel": PART}, type="covered"),
         event(PART, 3, FIRST), event(FILLS, 7, SECOND), event(FILLS, 8, LAST), event(PART, 4, THIRD)]),
    Case("a fill by both", [answer(FILLS, 5), answer(PART, 2), event(FILLS, 6, FIRST), event(PART, 3, FIRST)], 1),
    Case("another epoch", _book(answer(BOOK, 3, "f", recovered=False), gap(BOOK, "epoch", 6, None, "f"),
         snapshot(BOOK, 3, ANY_BOOK, "f"), event(BOOK, 4, BETTER_BID), state_at(BOOK, 5)), asked=[None]),
    Case("fills of another epoch", [answer(FILLS, 5), answer(FILLS, 2, "f", recovered=False),
         gap(FILLS, "epoch", 6, None, "f"), event(FILLS, 3, FIRST), LAST_SEQ], asked=[{FILLS: {"seq": 3, "epoch": "f"}}]),
    Case("the live layer", [answer(TICKER, 5), live_snapshot(TICKER, 5, "x"),
         {"v": 1, "event": "price_tick", "channel": TICKER, "seq": 6, "ts": 1, "ok": True, "data": "y"},
         {"v": 1, "event": "heartbeat", "channel": "system", "seq": 0, "ts": 1, "ok": True, "data": {}},
         state_at(TICKER, 6), state_at(TICKER, 5)], asked=["y", "x"]),
    Case("an error", [{"event": "error", "channel": "system", "data": {"code": 40004}}], 1),
    Case("no answer at all, as in a poll", [live_snapshot(TICKER, 7), event(TICKER, 8), event(TICKER, 10)], 1),
    Case("covered by a part that is not there", [answer(ORDERS, 5), snapshot(ORDERS, 5, []),
         event(ORDERS, 6, {"channel": "orders@a_b"}, type="covered")], 1),
    Case("the book at each number", _book(event(BOOK, 6, BETTER_BID), state_at(BOOK, 5), state_at(BOOK, 6),
         state_at(BOOK, 7)), asked=[ANY_BOOK, BOOK_THEN, None]),
    Case("no book after a drop", _book(drop(BOOK, 6, 9), state_at(BOOK, 9)), asked=[None]),
    Case("open orders", [answer(ORDERS, 5), snapshot(ORDERS, 5, []), event(ORDERS, 6, OPEN), event(ORDERS, 7, FILLED),
         state_at(ORDERS, 6), state_at(ORDERS, 7)], asked=[{"1": OPEN}, {}]),
    Case("fifty trades", [answer(TRADES, 5), snapshot(TRADES, 5, [TRADE] * 50), event(TRADES, 6, [{"tradeId": 2}]),
         state_at(TRADES, 6)], asked=[[TRADE] * 49 + [{"tradeId": 2}]]),
    Case("trades after a drop", [answer(TRADES, 5), snapshot(TRADES, 5, [TRADE]), drop(TRADES, 6, 7),
         event(TRADES, 8, [TRADE] * 49), event(TRADES, 9, [TRADE]), state_at(TRADES, 8), state_at(TRADES, 9)],
         asked=[None, [TRADE] * 50]),
]  # fmt: skip
