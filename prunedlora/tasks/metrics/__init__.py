"""Metrics that are more than a line: functions of the user's own, and overlap of words."""
