"""The worker's side of the API: claim, heartbeat, tickets, commit, finish."""
