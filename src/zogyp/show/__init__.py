"""Pictures and reports: the only place that draws, and nothing else in zogyp needs it."""
