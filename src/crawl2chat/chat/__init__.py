"""Conversations: made, packed, learned from, and held in a terminal."""
