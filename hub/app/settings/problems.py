"""What is wrong with a configuration, told all at once."""

from __future__ import annotations

from collections.abc import Sequence

from hub.sansio.errors import HubError


class ConfigurationError(HubError):
    """The operator's fault: the hub cannot start as configured.

    ``problems`` holds one line each: where it was said (file, environment variable, ``--set``), the key, the
    value (secrets masked), what would be right.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
