"""What outlives a call: records derived from its tape, their store, recordings and the jobs that make them."""
