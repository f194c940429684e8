"""Figures from predictions and truth: metrics, intervals, comparison, calibration."""
