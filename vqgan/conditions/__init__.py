"""What a prior is given beside the codes: maps, layouts, places, as tokens."""
