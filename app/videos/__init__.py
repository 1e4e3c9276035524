"""Videos: the doors of the systems that this platform replaced, as thin views over jobs."""
