"""Measurements of boards, and the files that keep the measurements."""
