"""What is seen in a video: detections, tracks, zones and the events that follow from them."""
