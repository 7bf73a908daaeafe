"""The data report: one HTML page about what cleaning kept and dropped."""
