"""A run as one self-contained HTML page: geometry here, marks and words in the templates."""
