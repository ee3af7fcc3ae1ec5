"""What protects secrets and files of this machine: private files, redaction, text made harmless for terminals."""
