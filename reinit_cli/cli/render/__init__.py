"""Render tables, pages, figures, JSON and progress bars."""
