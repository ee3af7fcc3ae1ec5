"""Videos, their scenes and transcripts: written, read by their owners, deleted; and what an existing Heimdex left."""
