"""Interlock: receives, decides on and releases ISO 20022 payment messages."""

__version__ = "0.1.0"
