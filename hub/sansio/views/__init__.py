"""Views: what the publications of a channel come to. A subscriber gets the state first, then the changes."""
