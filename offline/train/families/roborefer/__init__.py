"""Fine-tuning of RoboRefer: training form of the dialogues, the training forward pass, its loss."""
