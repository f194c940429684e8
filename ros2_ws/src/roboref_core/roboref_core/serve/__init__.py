"""A pointing model behind HTTP."""
