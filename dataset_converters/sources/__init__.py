"""What each publisher's files look like."""
