"""Configure a broker and run the broker on this machine."""
