"""Pipeline `video-frames`: a video becomes a ZIP of pictures."""
