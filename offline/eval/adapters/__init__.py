"""The spatial tasks in other evaluation frameworks, with the scorer of this one."""
