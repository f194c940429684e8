"""Commands of `roboref` that join several rooms."""
