"""Where records come from: a broker, a recording."""
