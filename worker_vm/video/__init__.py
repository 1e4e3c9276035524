"""Reading videos that users upload. What decodes runs in a confined child only."""
