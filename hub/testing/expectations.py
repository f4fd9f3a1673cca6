"""How the kit says what is wrong: an assertion that names the promise, whatever went wrong in whichever task."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import trio
import trio.testing

#: Seconds after which something that must happen has not. Nothing that is right ever waits for it.
PATIENCE = 10.0
#: Idle seconds after which everything that is under way, also in the kernel, has come to rest.
SETTLED = 0.01

LINK_ERRORS = (trio.BrokenResourceError, trio.ClosedResourceError)


@contextmanager
def in_time(promise: str) -> Iterator[None]:
    """The block ends before our patience does, and without an error."""
    with trio.move_on_after(PATIENCE) as patience:
        with without_error(promise):
            yield
    assert not patience.cancelled_caught, f"{promise}: still waiting after {PATIENCE:g} s"


@contextmanager
def without_error(promise: str) -> Iterator[None]:
    """The block raises nothing (but may be cancelled, and may find something else wrong)."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{promise}: raised {error!r}") from error


@contextmanager
def raises(promise: str, *kinds: type[Exception]) -> Iterator[None]:
    """The block raises one of these, in time."""
    expected = " or ".join(kind.__name__ for kind in kinds)
    with trio.move_on_after(PATIENCE) as patience:
        try:
            yield
        except kinds:
            return
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"{promise}: must raise {expected}, raised {error!r}") from error
    if patience.cancelled_caught:
        raise AssertionError(f"{promise}: must raise {expected}, still waiting after {PATIENCE:g} s")
    raise AssertionError(f"{promise}: must raise {expected}, raised nothing")


@contextmanager
def never_blocking(promise: str) -> Iterator[None]:
    """The block does not stop the thread. Where it does a signal ends it, in the main thread at least."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def complain(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{promise}: blocked the whole process for {PATIENCE:g} s")

    handler = signal.signal(signal.SIGALRM, complain)
    delay, interval = signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, delay, interval)
        signal.signal(signal.SIGALRM, handler)


async def settle() -> None:
    """Returns when nothing moves any more."""
    await trio.testing.wait_all_tasks_blocked(SETTLED)


def shorten(message: object) -> str:
    """As much of a message as is of use in an assertion."""
    text = repr(message)
    return text if len(text) <= 100 else f"{text[:60]}... {len(text)} characters in all"


def first_assertion(group: BaseExceptionGroup[BaseException]) -> AssertionError | None:
    """What a check found, out of the nurseries it was found in."""
    for error in group.exceptions:
        found = first_assertion(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, AssertionError):
            return found
    return None
