"""Anomalies in video and camera streams: frames -> zones and crops -> evidence over time -> events."""
