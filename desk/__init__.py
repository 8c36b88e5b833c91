"""The business behind the phone: its calendar, customers, messages and answers."""
