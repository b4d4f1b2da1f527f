"""Being a good process: launched as asked, in agreement with the others, stopped when asked, never silent."""
