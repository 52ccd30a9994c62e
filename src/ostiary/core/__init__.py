"""What is true: pure, synchronous decisions. No I/O, clock, randomness, logging or await in here."""
