"""What every command shares: its name, its help, its terminal, Ctrl-C."""
