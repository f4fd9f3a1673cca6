"""Where the first state of a channel comes from, when the hub has not seen its beginning."""

from hub.providers.channel_states import ChannelStates
from hub.providers.http import HttpSnapshots, ProviderStatistics
from hub.providers.settings import ProviderSettings
from hub.providers.url_template import check_template, fill_template

__all__ = [
    "ChannelStates",
    "HttpSnapshots",
    "ProviderSettings",
    "ProviderStatistics",
    "check_template",
    "fill_template",
]
