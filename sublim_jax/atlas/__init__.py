"""When do traits transfer? Sweeps over thousands of small networks, and what predicts them."""
