"""Models that know classes: what they learn from, how they are made, and how they are judged."""
