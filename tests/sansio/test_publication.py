"""Publications: which names an event may have."""

from __future__ import annotations

import pytest

from hub.sansio.publication import Publication, check_event_name


@pytest.mark.parametrize("name", ["a", "price_tick", "job.done-2", "A" * 64])
def test_event_names(name: str) -> None:
    check_event_name(name)


@pytest.mark.parametrize("name", ["", "a b", 'a"', "a\n", "\na", "ä", "a:b", "A" * 65])
def test_not_an_event_name(name: str) -> None:
    with pytest.raises(ValueError, match="event name"):
        check_event_name(name)


def test_a_publication_in_a_failed_test() -> None:
    assert repr(Publication(7, b"{}", ts=1, stored_at=0.0, event="a")) == "Publication(seq=7, data=b'{}')"
