"""Scores of a trained network on sections with labels."""
