"""From one posterior to many: the compiled edge around a defense, the black box, and streams of queries."""
