"""What a film is, decided without touching a file, a process, a clock or randomness."""
