"""Who the users of the examples are. The documents name credentials; here are the real ones that they stand for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import attrs

from tests.auth.tokens import Issuer
from tests.docs.documents import ROOT
from tests.docs.programs import environment

#: Where the examples keep the files that `[auth]` names.
DOCUMENTED_FOLDER = "/etc/trio-hub/"
#: User and tier of those who have an API key. Nothing happens to Carol but what an example does.
_KEY_OWNERS = (("carol", "retail"), ("demo-alice", "retail"), ("demo-mm", "mm"))


@attrs.frozen
class People:
    """Some users, an issuer of tokens for them, and their API keys in a file in ``folder``."""

    folder: Path
    issuer: Issuer
    keys: Mapping[str, str]

    def settings(self) -> list[str]:
        """What a hub must be told to know them, as ``key=value``."""
        return [
            f'auth.jwt_key_files=["{self.folder / "issuer.pem"}"]',
            f"auth.api_key_file={self.folder / 'keys.toml'}",
        ]

    def bindings(self) -> dict[str, str]:
        """What stands for what. The tokens are made now, so that none has become too old."""
        carol, token = "carol", self.issuer.token
        return {
            DOCUMENTED_FOLDER: f"{self.folder}/",
            "TOKEN-OF-CAROL": token(carol),
            "NEXT-TOKEN-OF-CAROL": token(carol, expires_in=7200),
            "ENDING-TOKEN-OF-CAROL": token(carol, expires_in=50),
            "EXPIRED-TOKEN-OF-CAROL": token(carol, expires_in=-3600, iat=int(time.time()) - 7200),
            "TOKEN-OF-DAVE": token("dave"),
            **{f"hub_KEY-OF-{user.upper()}": key for user, key in self.keys.items()},
        }


def make_people(folder: Path) -> People:
    """Writes their files to ``folder``."""
    issuer = Issuer()
    (folder / "issuer.pem").write_text(issuer.public_pem)
    file = folder / "keys.toml"
    return People(folder, issuer, {user: _add_key(file, user, tier) for user, tier in _KEY_OWNERS})


def _add_key(file: Path, user: str, tier: str) -> str:
    command = [sys.executable, "-m", "hub", "keys", "add", "--file", str(file), "--user", user]
    made = subprocess.run(
        [*command, "--tier", tier], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    return made.stdout.strip()
