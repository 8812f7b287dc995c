"""Pages for people: where the time goes before and after, with the numbers behind it."""
