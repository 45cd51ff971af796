"""Measurements of a model on boards, and the files that keep the measurements."""
