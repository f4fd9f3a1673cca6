"""Tickets are good once and briefly; there is a bound to their number; and nothing of them is kept but hashes."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from hub.auth.tickets import PER_USER, Tickets
from hub.sansio.errors import ErrorCode, RequestRefused
from hub.sansio.identity import Identity

AGE = 30.0
ALICE = Identity(user="alice", tier="mm", roles=frozenset({"trade"}), expires_at=99.0)


def refusal_of(tickets: Tickets, ticket: str, now: float) -> ErrorCode:
    with pytest.raises(RequestRefused) as caught:
        tickets.redeem(ticket, now)
    assert not ticket or ticket not in caught.value.msg
    return caught.value.code


def test_a_ticket_is_its_owners_once() -> None:
    tickets = Tickets(age=AGE, limit=10)
    ticket = tickets.issue(ALICE, 0.0)
    assert tickets.redeem(ticket, 1.0) is ALICE
    for now in (1.0, AGE - 1.0, AGE, AGE + 0.5):
        assert refusal_of(tickets, ticket, now) == ErrorCode.UNAUTHENTICATED
    assert tickets.statistics().failed == {"expired": 0, "used": 4, "invalid": 0}


def test_a_ticket_expires() -> None:
    tickets = Tickets(age=AGE, limit=10)
    early, late = tickets.issue(ALICE, 0.0), tickets.issue(ALICE, 0.0)
    assert tickets.redeem(early, AGE - 0.001) is ALICE
    assert refusal_of(tickets, late, AGE) == ErrorCode.TOKEN_EXPIRED
    assert refusal_of(tickets, late, 2 * AGE) == ErrorCode.UNAUTHENTICATED  # forgotten
    assert tickets.statistics().failed == {"expired": 1, "used": 0, "invalid": 1}
    assert tickets.statistics().outstanding == 0


@pytest.mark.parametrize("ticket", ["", "x", "x" * 10_000, "\ud800", "\x00"])
def test_what_was_never_a_ticket(ticket: str) -> None:
    tickets = Tickets(age=AGE, limit=10)
    assert refusal_of(tickets, ticket, 0.0) == ErrorCode.UNAUTHENTICATED
    assert tickets.statistics().failed["invalid"] == 1


def test_tickets_are_long_and_differ() -> None:
    tickets = Tickets(age=AGE, limit=1000)
    made = {tickets.issue(Identity(user=str(number)), 0.0) for number in range(1000)}
    assert len(made) == 1000
    assert all(len(ticket) == 43 and ticket.isascii() for ticket in made)  # 32 bytes


def test_the_oldest_is_forgotten_where_there_are_too_many() -> None:
    tickets = Tickets(age=AGE, limit=3)
    made = [tickets.issue(Identity(user=str(number)), 0.0) for number in range(5)]
    assert tickets.statistics().outstanding == 3
    for ticket in made[:2]:
        assert refusal_of(tickets, ticket, 1.0) == ErrorCode.UNAUTHENTICATED
    assert [tickets.redeem(ticket, 1.0).user for ticket in made[2:]] == ["2", "3", "4"]
    assert tickets.statistics().failed == {"expired": 0, "used": 0, "invalid": 2}


def test_one_user_does_not_push_out_another() -> None:
    tickets = Tickets(age=AGE, limit=2 * PER_USER)
    of_bob = tickets.issue(Identity(user="bob"), 0.0)
    of_alice = [tickets.issue(ALICE, 0.0) for _ in range(10 * PER_USER)]
    assert tickets.redeem(of_bob, 1.0).user == "bob"
    assert refusal_of(tickets, of_alice[-PER_USER - 1], 1.0) == ErrorCode.UNAUTHENTICATED
    assert tickets.redeem(of_alice[-PER_USER], 1.0) is ALICE


def test_no_ticket_is_kept() -> None:
    tickets = Tickets(age=AGE, limit=10)
    ticket, used = tickets.issue(ALICE, 0.0), tickets.issue(ALICE, 0.0)
    tickets.redeem(used, 0.0)
    assert not any(text in repr(vars(tickets)) for text in (ticket, used))


class TicketMachine(RuleBasedStateMachine):
    """A model that remembers everything, against one that must not."""

    made = Bundle("made")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.tickets = Tickets(age=AGE, limit=4)
        self.deadlines: dict[str, float] = {}
        self.owners: dict[str, str] = {}
        self.used: set[str] = set()

    @rule(target=made, user=st.sampled_from(["a", "b"]))
    def issue(self, user: str) -> str:
        ticket = self.tickets.issue(Identity(user=user), self.now)
        self.deadlines[ticket], self.owners[ticket] = self.now + AGE, user
        return ticket

    @rule(ticket=made)
    def redeem(self, ticket: str) -> None:
        newer = list(self.deadlines)[list(self.deadlines).index(ticket) + 1 :]
        is_good = ticket not in self.used and self.deadlines[ticket] > self.now
        try:
            assert self.tickets.redeem(ticket, self.now).user == self.owners[ticket]
        except RequestRefused:
            # A good one is only ever forgotten for the sake of newer ones.
            assert not is_good or len(newer) >= 4
        else:
            assert is_good
            self.used.add(ticket)

    @rule(seconds=st.sampled_from([0.0, 1.0, AGE / 2, AGE, 3 * AGE]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def is_bounded(self) -> None:
        assert self.tickets.statistics().outstanding <= 4
        assert len(self.tickets._used) <= 4
        assert sum(map(len, self.tickets._of_user.values())) == len(self.tickets._tickets)


TestTicketMachine = hypothesis.settings(max_examples=50, deadline=None)(TicketMachine).TestCase
