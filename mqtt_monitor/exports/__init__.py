"""The fleet for other programs: Prometheus, OpenTelemetry, Home Assistant."""
