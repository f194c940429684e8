"""A page in the browser to look, mark and ask: an ordinary client of the node."""
