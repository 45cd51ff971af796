"""Models that nobody of this project designed: how to build or fetch each, and what it is."""
