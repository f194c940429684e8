"""What is stored: samples, predictions, answers."""
