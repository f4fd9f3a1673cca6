"""Run a command so that Ctrl-C reaches it alone, and leave with its exit code.

    python .ci/foreground.py COMMAND [ARGUMENT...]

GNU make takes a Ctrl-C on the terminal for itself too: it says "Interrupt" and ends with 130 even when the
server it ran drained and left with 0. So on a terminal the command gets a process group of its own, in
the terminal's foreground, as a shell's job control does it. SIGTERM and SIGHUP are passed on.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main(command: list[str]) -> int:
    terminal = _terminal()
    child = os.fork()
    if child == 0:
        _become(command, terminal)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: os.kill(child, number))
    signal.signal(signal.SIGINT, _leave_to_child)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else taking the terminal back would stop us
    try:
        return _wait(child, terminal)
    finally:
        _give(terminal, os.getpgrp())


def _terminal() -> int | None:
    """The terminal's descriptor when this process is in its foreground."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return None
    return descriptor if os.tcgetpgrp(descriptor) == os.getpgrp() else None


def _become(command: list[str], terminal: int | None) -> None:
    if terminal is not None:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        _give(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        os._exit(127)


def _give(terminal: int | None, group: int) -> None:
    if terminal is not None:
        os.tcsetpgrp(terminal, group)


def _wait(child: int, terminal: int | None) -> int:
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        # Ctrl-Z: stop like the child, with make, so that the shell gets its prompt; go on on `fg`.
        _give(terminal, os.getpgrp())
        os.kill(0, signal.SIGSTOP)
        _give(terminal, child if terminal is not None else os.getpgrp())
        os.kill(-child if terminal is not None else child, signal.SIGCONT)


def _leave_to_child(_number: int, _frame: FrameType | None) -> None:
    """Without a terminal the child is in our process group: a SIGINT sent to the group reached it as well."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
