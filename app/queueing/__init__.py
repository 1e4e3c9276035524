"""The dispatcher process: dispatch, rescue, retention."""
