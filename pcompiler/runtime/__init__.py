"""Running a model after something that stands before the query."""
