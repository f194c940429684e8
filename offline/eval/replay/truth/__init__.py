"""Questions about a sequence and their exact answers."""
