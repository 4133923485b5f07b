"""Run a job: copies and draws, overlapped."""
