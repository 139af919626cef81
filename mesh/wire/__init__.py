"""Bytes ↔ messages, payloads, functions and exceptions. Nothing here touches a socket or a disk."""
