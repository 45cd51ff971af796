"""Sources of messages: a broker, a recording."""
