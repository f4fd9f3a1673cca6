"""The state of a channel from where its namespace says that it is."""

from __future__ import annotations

from hub.core.channel import Channel
from hub.core.contracts import SnapshotProvider, SnapshotUnavailable
from hub.providers.url_template import fill_template


class ChannelStates:
    """Asks ``provider`` for the states of channels; ``fetch`` is a ``hub.core.first_states.FetchState``."""

    def __init__(self, provider: SnapshotProvider) -> None:
        self._provider = provider

    async def fetch(self, channel: Channel) -> bytes:
        """The channel's state as compact JSON. Raises SnapshotUnavailable."""
        template = channel.policy.provider
        try:
            url = fill_template(template, user=channel.user, channel=channel.name, holes=channel.holes)
        except ValueError as error:  # such as a user whose id is ".."
            raise SnapshotUnavailable(str(error)) from None
        return await self._provider.fetch(url)
