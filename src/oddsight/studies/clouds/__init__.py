"""The study of clouds on satellite scenes: which scenes are cloudy, where, and what haze, smoke and dust change."""
