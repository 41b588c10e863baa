"""How many of some thresholds each number exceeds."""
