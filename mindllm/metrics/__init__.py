"""What a run says about itself (record), and what can be read and drawn from it (read, plot: without torch)."""
