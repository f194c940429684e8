"""How Hypothesis draws in every room's tests."""

from hypothesis import HealthCheck, settings

# The same examples every time, so that a failure is the code's; `--hypothesis-profile=default` looks for new ones.
# Registered here and not taken from Hypothesis: Ubuntu 24.04's has no such profile.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
