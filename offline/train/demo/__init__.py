"""``make train-demo``: a small model learns from the data engine's questions, and the node answers with it."""
