"""The core: broker, channels, sessions and the scheduler that delivers."""
