"""Speed, each time as a ratio to a named baseline of the same run."""
