"""The admin figures: one function for each function of the database."""
