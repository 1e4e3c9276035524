"""Pictures to try the platform with."""
