"""Clients with tokens, and channels that not everybody may have."""

from __future__ import annotations

from typing import Any

import attrs
import trio
import trio.testing

from hub.core.broker import Broker
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import ANONYMOUS, Identity
from hub.sansio.policies import Policy
from tests.core.market import ANNA, BERT, dump, fill, make_broker, order

DESK = Identity("max", "mm", frozenset({"desk"}))
GUARDED = (
    Policy(pattern="all:1", allow=("anyone",)),
    Policy(pattern="known:1", allow=("authenticated",)),
    Policy(pattern="annas:1", allow=("user:anna",)),
    Policy(pattern="makers:1", allow=("tier:mm",), snapshot="last"),
    Policy(pattern="desk:1", allow=("role:desk", "role:chief"), snapshot="last"),
    Policy(pattern="user:{user}:news", snapshot="last"),
)
#: channel -> what nobody, anna and max are told
RIGHTS = {
    "all:1": (0, 0, 0),
    "known:1": (40100, 0, 0),
    "annas:1": (40100, 0, 40102),
    "makers:1": (40100, 40102, 0),
    "desk:1": (40100, 40102, 0),
    "user:anna:news": (40100, 0, 40102),
    "user:max:news": (40100, 40102, 0),
    "orders": (40100, 0, 0),
    "fills@btc_tl": (40100, 0, 0),
    "ticker@btc_tl": (0, 0, 0),
    "no:such": (40001, 40001, 40001),
    "ticker@no_such": (40002, 40002, 40002),
}
WHO = (ANONYMOUS, ANNA, DESK)


@attrs.define
class Tokens:
    """Knows whom each token belongs to."""

    identities: dict[str, Identity | RequestRefused] = attrs.field(factory=dict)

    async def identify(self, request: Any) -> Identity:
        raise NotImplementedError

    async def verify_token(self, token: str) -> Identity:
        await trio.lowlevel.checkpoint()
        found = self.identities.get(token)
        if isinstance(found, Identity):
            return found
        raise found or RequestRefused(ErrorCode.UNAUTHENTICATED, "invalid token")


TOKENS = Tokens({
    "anna": ANNA,
    "anna mm": Identity("anna", "mm"),
    "bert": BERT,
    "max": DESK,
    "max no roles": Identity("max", "mm"),
    "max other role": Identity("max", "mm", frozenset({"chief"})),
    "max retail": Identity("max", "retail"),
    "old": RequestRefused(ErrorCode.TOKEN_EXPIRED, "token expired"),
    "later": RequestRefused(ErrorCode.UNAVAILABLE, "keys are not to be had"),
})  # fmt: skip


async def open_broker(nursery: trio.Nursery, **more: Any) -> Broker:
    broker = make_broker(*GUARDED, authenticator=TOKENS, **more)
    await nursery.start(broker.run)
    return broker


def publish_everywhere(broker: Broker) -> None:
    for name in RIGHTS:
        if name in ("no:such", "ticker@no_such"):
            continue
        data = {"fills@btc_tl": dump(fill(1)), "orders": dump(order(1))}.get(name, b"{}")
        for user in ("anna", "max"):
            broker.publish(name, data, user=user)
