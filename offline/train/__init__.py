"""Fine-tuning: plans, data, the trainer on DeepSpeed, checks, Slurm."""
