"""Slow boards, emulated on this machine."""
