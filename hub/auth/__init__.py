"""Identity: who a client is, by tokens (JWT), API keys, tickets, or the word of a gateway."""

from hub.auth.authenticator import AuthStatistics, HubAuthenticator
from hub.auth.gateway import GATEWAY_HEADERS, gateway_identity, parse_networks
from hub.auth.jwks import JwksStatistics
from hub.auth.settings import AuthConfigurationError, AuthSettings
from hub.auth.tickets import TicketStatistics

__all__ = [
    "HubAuthenticator",
    "AuthSettings",
    "AuthConfigurationError",
    "GATEWAY_HEADERS",
    "gateway_identity",
    "parse_networks",
    "AuthStatistics",
    "JwksStatistics",
    "TicketStatistics",
]
