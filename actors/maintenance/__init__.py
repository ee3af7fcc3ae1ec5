"""What cleans up and keeps in step beside the attempts: downloads, pictures, records, the search index."""
