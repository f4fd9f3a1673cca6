"""``python -m hub.app.settings [DIRECTORY]`` renders conf/hub.toml and docs/configuration.rst there."""

from __future__ import annotations

import sys
from pathlib import Path

from hub.app.settings.plugins import find_plugins
from hub.app.settings.reference import render_documentation, render_toml


def main(directory: Path) -> None:
    transports = find_plugins("hub.transports", own_only=True)
    sources = find_plugins("hub.sources", own_only=True)
    for name, render in (("conf/hub.toml", render_toml), ("docs/configuration.rst", render_documentation)):
        (directory / name).write_text(render(transports, sources), encoding="utf-8")
        print(f"rendered {directory / name}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
