"""Values in, text out: for a terminal, for a log, as JSON."""
