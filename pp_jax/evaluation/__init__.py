"""What a defense is worth: metrics, calibration at equal cost, attackers, and the worst case over them."""
