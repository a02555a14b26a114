"""Models for other programs and for people: the engine, the API and the web pages."""
