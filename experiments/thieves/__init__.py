"""Who steals: what is asked, what is made of the answers, and what comes of it."""
