"""Words of the command line that argparse reads with these."""

from __future__ import annotations

import argparse
from urllib.parse import urlsplit

_PLAIN = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def base_url(text: str) -> str:
    """Where a hub is: its scheme as http or https, no slash at the end."""
    try:
        parts = urlsplit(text)
        is_place = bool(parts.hostname) and parts.port != 0 and not parts.query and not parts.fragment
        if parts.scheme in _PLAIN and is_place and text.isprintable() and " " not in text:
            return f"{_PLAIN[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}"
    except ValueError:  # a port that is none, brackets that do not match
        pass
    raise argparse.ArgumentTypeError(f"expected a URL such as http://127.0.0.1:8080, not {text!r}")


def positive(text: str) -> int:
    """A count from 1 up."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, not {text!r}")
    return int(text)


def natural(text: str) -> int:
    """A whole number from 0 up."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, not {text!r}")
    return int(text)
