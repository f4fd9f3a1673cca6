"""Tells who clients are, by whatever credentials they bring."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_plus

import attrs
import trio

from hub.auth.api_keys import ApiKeys
from hub.auth.claims import expired, unauthenticated
from hub.auth.gateway import gateway_identity, parse_networks
from hub.auth.jwks import Jwks, JwksStatistics
from hub.auth.key_file import KeyFileBroken
from hub.auth.public_keys import read_key_files
from hub.auth.settings import AuthConfigurationError, AuthSettings
from hub.auth.tickets import Tickets, TicketStatistics
from hub.auth.tokens import TokenVerifier
from hub.core.contracts import Request
from hub.sansio.identity import ANONYMOUS, Identity


@attrs.frozen(kw_only=True)
class AuthStatistics:
    """``jwks`` and ``api_keys`` (their number) are None where none are configured."""

    tickets: TicketStatistics
    jwks: JwksStatistics | None
    api_keys: int | None


class HubAuthenticator:
    """`hub.core.contracts.Authenticator` for JWTs, API keys, tickets and a gateway's headers.

    ``run`` must be running. ``now`` is Unix seconds. Raises AuthConfigurationError where a file cannot be used.
    """

    def __init__(self, settings: AuthSettings, *, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now
        self._jwks: Jwks | None = None
        if settings.jwks_url:
            self._jwks = Jwks(
                settings.jwks_url,
                settings.jwt_algorithms,
                refresh=settings.jwks_refresh,
                timeout=settings.jwks_timeout,
            )
        keys = read_key_files(settings.jwt_key_files, settings.jwt_algorithms)
        self._tokens = TokenVerifier(settings, keys, self._jwks, now=now) if settings.takes_tokens else None
        self._api_keys = _open_api_keys(settings.api_key_file, now)
        self._tickets = Tickets(age=settings.ticket_age, limit=settings.tickets)
        self._gateways = parse_networks(settings.gateway_networks)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the issuer's keys up to date until cancelled. Does not wait for the first of them: requests do."""
        if self._jwks is not None:
            await self._jwks.run(task_status=task_status)
        task_status.started()
        await trio.sleep_forever()

    async def identify(self, request: Request) -> Identity:
        """See ``hub.core.contracts.Authenticator``. Of several credentials the first of these counts: a token or key
        in Authorization, a ticket and a token in the query, a gateway's headers."""
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self.verify_token(credentials.strip())
        if scheme.lower() == "apikey":
            return await self._verify_api_key(credentials.strip())
        # Another scheme is somebody else's: a proxy in front may ask for a password and pass it on.
        if (ticket := _find_field(request.query, "ticket")) is not None:
            return self.redeem_ticket(ticket)
        if (token := _find_field(request.query, "token")) is not None:
            return await self.verify_token(token)
        identity = gateway_identity(
            request.headers, request.direct_peer, self._gateways, self._settings.default_tier
        )
        return identity or ANONYMOUS

    async def verify_token(self, token: str) -> Identity:
        """See ``hub.core.contracts.Authenticator``."""
        if self._tokens is None:
            raise unauthenticated("this hub takes no tokens")
        return await self._tokens.verify(token)

    def issue_ticket(self, identity: Identity) -> tuple[str, float]:
        """A ticket for who has shown other credentials, and for how many seconds it is good. Raises RequestRefused
        (40100) for the anonymous."""
        if identity.user is None:
            raise unauthenticated("auth required")
        return self._tickets.issue(identity, trio.current_time()), self._tickets.age

    def redeem_ticket(self, ticket: str) -> Identity:
        """Whose the ticket is; it is used then. Raises RequestRefused (40100, 40101)."""
        identity = self._tickets.redeem(ticket, trio.current_time())
        # What a token is taken for, its ticket is, too.
        if identity.expires_at is not None and identity.expires_at + self._settings.leeway <= self._now():
            raise expired("the credentials behind the ticket have expired")
        return identity

    def statistics(self) -> AuthStatistics:
        return AuthStatistics(
            tickets=self._tickets.statistics(),
            jwks=None if self._jwks is None else self._jwks.statistics(),
            api_keys=None if self._api_keys is None else len(self._api_keys),
        )

    async def _verify_api_key(self, key: str) -> Identity:
        if self._api_keys is None:
            raise unauthenticated("this hub takes no API keys")
        return await self._api_keys.identify(key)


def _open_api_keys(path: str, now: Callable[[], float]) -> ApiKeys | None:
    if not path:
        return None
    try:
        return ApiKeys(Path(path), now=now)
    except FileNotFoundError:
        problem = f"no such file; `hub keys add --file {path} --user USER` makes it"
    except OSError as error:
        problem = error.strerror or str(error)
    except KeyFileBroken as error:
        problem = str(error)
    raise AuthConfigurationError(f'auth.api_key_file = "{path}": {problem}')


def _find_field(query: str, name: str) -> str | None:
    """A field's value. Raises RequestRefused (40100) where it is there twice: two readers might take either.

    The rest of the query is not looked at: what is wrong there is told by whoever the request is for.
    """
    pairs = (field.partition("=") for field in query.split("&"))
    values = [unquote_plus(value, errors="replace") for key, _, value in pairs if unquote_plus(key) == name]
    if len(values) > 1:
        raise unauthenticated(f"{name} is given twice")
    return values[0] if values else None
