"""Feeds: the sources of the messages that the monitor reads, a broker or a recording."""
