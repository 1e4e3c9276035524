"""Videos whose every box and event is known, because they were drawn."""
