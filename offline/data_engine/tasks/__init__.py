"""Training samples from views: spatial tasks, their negatives, referring expressions, and foreign record formats."""
