"""What is done from a shell with a hub that runs elsewhere: ``hub publish`` and ``hub tail``."""

from hub.app.commands.publish import publish_event
from hub.app.commands.tail import tail
from hub.app.commands.urls import base_url, positive

__all__ = ["base_url", "positive", "publish_event", "tail"]
