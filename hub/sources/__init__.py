"""Plugins that bring publications in; none imports another."""
