"""Pipeline `video-analytics`: what moves in a video, where and when, drawn into it."""
