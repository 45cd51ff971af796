"""Exports the fleet to other programs: Prometheus, OpenTelemetry, Home Assistant."""
