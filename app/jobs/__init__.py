"""Jobs: what users asked for, and how it ends."""
