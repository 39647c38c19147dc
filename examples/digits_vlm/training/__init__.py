"""What only training and the data export need; none of it reaches the serving image."""
