"""What linear layers with a fast transform between diagonals share: rows come in scaled, and go out scaled."""
