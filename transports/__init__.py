"""The transports that come with the hub. Each is one plugin of the entry-point group ``hub.transports``."""
