"""What is done from a shell for a hub that runs elsewhere: ``hub publish``, ``hub tail`` and ``hub keys``."""

from hub.app.commands.keys import add_keys_command
from hub.app.commands.publish import add_publish_command
from hub.app.commands.tail import tail
from hub.app.commands.urls import base_url, positive

__all__ = ["add_keys_command", "add_publish_command", "base_url", "positive", "tail"]
