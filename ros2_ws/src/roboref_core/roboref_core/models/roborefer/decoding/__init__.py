"""Answers from the network: prefill, grammar, the tree of possible answers, free generation."""
