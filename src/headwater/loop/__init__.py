"""Serve, judge, learn, offer, accept: rounds of feedback on one machine."""
