"""Emulation of slow boards on this machine."""
