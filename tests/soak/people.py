"""Users of the simulated exchange with credentials of their own: tokens of an issuer, and API keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.auth.tokens import Issuer
from tests.hub_process import ROOT

#: Users whom the demo source gives orders and money.
ALICE, BOB, MARKET_MAKER = "demo-alice", "demo-bob", "demo-mm"
#: Longer than any soak, in seconds.
TOKEN_LIFE = 24 * 3600.0


class People:
    """Keeps a public key and a file of API keys in ``folder``; ``settings`` have the hub take both."""

    def __init__(self, folder: Path) -> None:
        self._issuer = Issuer("ES256")
        self._key_file = folder / "api-keys.toml"
        public = folder / "issuer.pem"
        public.write_text(self._issuer.public_pem)
        self._keys = {
            user: self._add_key(user, tier) for user, tier in ((BOB, "retail"), (MARKET_MAKER, "mm"))
        }
        self.settings = [
            'auth.jwt_algorithms=["ES256"]',
            f'auth.jwt_key_files=["k1={public}"]',
            f"auth.api_key_file={self._key_file}",
        ]

    def token(self, user: str) -> str:
        return self._issuer.token(user, expires_in=TOKEN_LIFE)

    def bearer(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user)}"}

    def api_key(self, user: str) -> dict[str, str]:
        """Of Bob, or of the market maker."""
        return {"Authorization": f"ApiKey {self._keys[user]}"}

    def _add_key(self, user: str, tier: str) -> str:
        """Makes a key as an operator would."""
        command = ["keys", "add", "--user", user, "--tier", tier, "--file", str(self._key_file)]
        made = subprocess.run(
            [sys.executable, "-m", "hub", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        return made.stdout.strip()
