"""What runs away from the robot: training data, fine-tuning, evaluation."""
