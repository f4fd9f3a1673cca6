"""Stub."""

import argparse


def publish_event(options: argparse.Namespace) -> int:
    return 0


def tail(options: argparse.Namespace) -> int:
    return 0
