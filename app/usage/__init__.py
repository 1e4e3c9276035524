"""What users and organisations use, and how much they may (docs/limits.md)."""
