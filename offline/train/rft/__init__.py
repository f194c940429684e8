"""Reinforcement fine-tuning: answers are sampled, rewarded, and made more or less likely (GRPO)."""
