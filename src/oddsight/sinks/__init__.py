"""Where results go: tables, JSON Lines, heat maps, explanations, regions."""
