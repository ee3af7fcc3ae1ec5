"""What is written beside scenes so that they are found: vectors by model, vocabulary, and the outbox of changes."""
