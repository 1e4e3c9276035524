"""The audit trail: who did what to accounts, keys and files."""
