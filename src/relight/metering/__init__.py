"""What was used, in money: integer nano-dollars, by rate cards that are data with a date and a source."""
