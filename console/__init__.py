"""The operators' web: a login, pages, the JSON API, and the recordings. Opened and wired by bot/app.py."""
