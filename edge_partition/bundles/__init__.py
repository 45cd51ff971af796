"""Bundles: written by ``split``, read, run and verified."""
