"""The service: models over HTTP, for a page and for other programs.

``app.py`` puts the parts together; ``routes/`` has one file a topic, which turns requests into calls of the others.
"""
