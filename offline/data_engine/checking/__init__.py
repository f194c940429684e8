"""Looks at scans and finished data: checks, statistics, validation, pages to look at."""
