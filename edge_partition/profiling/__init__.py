"""Boards are timed, and their times kept."""
