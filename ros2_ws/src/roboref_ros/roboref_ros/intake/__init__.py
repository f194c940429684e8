"""From camera topics to views."""
