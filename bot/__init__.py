"""Everything that happens while a call is up. Knows no HTML and no SQL."""
