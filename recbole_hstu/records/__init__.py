"""What a run leaves behind: its log, its record, every user's rank."""
