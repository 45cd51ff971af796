"""Start and stop an MQTT broker on this machine."""
