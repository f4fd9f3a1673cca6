"""A Python client of the soak as a process: commands are JSON lines on stdin, answers on stdout.

python -m tests.soak.process '{"kind": "v2", "address": "127.0.0.1:8080", "channels": [...]}'
"""

from __future__ import annotations

import json
import sys

from tests.soak.client import Client, Options
from tests.soak.socket_client import SocketClient
from tests.soak.switching_client import SwitchingClient


def make_client(options: Options) -> Client:
    return SwitchingClient(options) if options.kind == "switching" else SocketClient(options)


def main() -> None:
    client = make_client(Options(**json.loads(sys.argv[1])))
    client.start()
    for line in sys.stdin:
        command = json.loads(line)
        answer = client.stop() if command.get("stop") else client.ask(command["channel"], command["seq"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
